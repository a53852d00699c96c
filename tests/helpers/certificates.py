"""Certificates that are thrown away: an authority, and one certificate for every role."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(folder):
    """Write them to `folder`, and return them as arguments of distributed.Security."""
    folder.mkdir()
    authority, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    own = signed("authority", authority.public_key(), authority, is_authority=True)
    certificate = signed("cluster", key.public_key(), authority, is_authority=False)
    files = {
        "ca.pem": own.public_bytes(serialization.Encoding.PEM),
        "cert.pem": certificate.public_bytes(serialization.Encoding.PEM),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {"tls_ca_file": str(folder / "ca.pem")} | {
        f"tls_{role}_{part}": str(folder / f"{part}.pem")
        for role in ("client", "scheduler", "worker")
        for part in ("cert", "key")
    }


def signed(name, public_key, authority, *, is_authority):
    """Return a certificate for `public_key`, signed by the authority for an hour."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(authority, hashes.SHA256())
    )
