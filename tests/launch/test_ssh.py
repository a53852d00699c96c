"""SSHCluster through a spec: a real sshd on this machine, with keys that are thrown away."""

from __future__ import annotations

import copy
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from helpers.certificates import make_certificates
from helpers.slurm import free_ports

import dresoftmax
from dresoftmax.datasets import load_attention
from dresoftmax.launch import open_cluster

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="there is no sshd on this machine"),
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="there is no ssh-keygen"),
]

CONFIGURATION = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
SetEnv PYTHONPATH={package}
"""


def wait_until_it_listens(server, port):
    for _ in range(200):
        assert server.poll() is None, server.stderr.read()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except ConnectionRefusedError:
            time.sleep(0.05)
    pytest.fail("sshd does not listen")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """Start sshd and return how asyncssh connects to it."""
    folder, (port,) = tmp_path_factory.mktemp("sshd"), free_ports(1)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(command, check=True, timeout=20)
    (folder / "known_hosts").write_text(
        f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}", encoding="utf-8"
    )
    configuration = CONFIGURATION.format(
        port=port, folder=folder, package=Path(dresoftmax.__file__).parents[1]
    )
    (folder / "config").write_text(configuration, encoding="utf-8")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, as root, drops its rights
    command = [SSHD, "-D", "-e", "-f", folder / "config"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            wait_until_it_listens(server, port)
            yield {
                "port": port,
                "client_keys": [str(folder / "user")],
                "known_hosts": str(folder / "known_hosts"),
            }
        finally:
            server.terminate()


def spec_of(connect_options, workers=2, **others):
    return {
        "cluster": "distributed.SSHCluster",
        "arguments": {
            "hosts": ["127.0.0.1"] * (1 + workers),
            "connect_options": connect_options,
            "remote_python": sys.executable,
            "scheduler_options": {"host": "127.0.0.1"},
            "worker_options": {"nthreads": 1, "host": "127.0.0.1"},
        },
        "wait_for_workers": workers,
        **others,
    }


def assert_attention_is_solved(client):
    head = load_attention()
    result = dresoftmax.solve(*head.problem(), unit="exp", seed=0, client=client)
    assert result.success
    np.testing.assert_allclose(result.x, head.queries[0], atol=1e-6)


def test_attention_is_solved_over_ssh(sshd):
    with open_cluster(spec_of(sshd)) as client:
        info = client.scheduler_info()
        assert len(info["workers"]) == 2
        assert info["address"].startswith("tcp://127.0.0.1:")
        assert_attention_is_solved(client)


def test_with_certificates_scheduler_and_workers_speak_tls(sshd, tmp_path):
    """They are told by Dask's configuration, which stays as it was on this side."""
    before = copy.deepcopy(dask.config.get("distributed"))
    security = make_certificates(tmp_path / "tls")
    with open_cluster(spec_of(sshd, workers=1, security=security)) as client:
        assert dask.config.get("distributed") == before
        info = client.scheduler_info()
        addresses = [info["address"], *info["workers"]]
        assert len(addresses) == 2
        assert all(address.startswith("tls://") for address in addresses)
        assert_attention_is_solved(client)


def test_an_unknown_host_key_is_refused(sshd, tmp_path):
    (tmp_path / "known_hosts").touch()
    options = {**sshd, "known_hosts": str(tmp_path / "known_hosts")}
    with (
        pytest.raises(ConnectionError, match=r"no cluster from distributed\.SSHCluster"),
        open_cluster(spec_of(options)),
    ):
        pass
