"""The options of a command that name a cluster, made into one cluster spec."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

__all__ = ["cluster_options"]

CONNECT_TIMEOUT = "10s"

_CLUSTERS = {
    "cluster": click.option(
        "--cluster", metavar="SPEC", help="Start the cluster of this YAML file; see cluster/."
    ),
    "scheduler": click.option(
        "--scheduler", metavar="ADDRESS", help="Use the Dask cluster at this address."
    ),
    "scheduler_file": click.option(
        "--scheduler-file", metavar="PATH", help="Use the Dask cluster that wrote this file."
    ),
    "workers": click.option(
        "--workers", type=click.IntRange(min=1), metavar="N",
        help="Start N worker processes on this machine.",
    ),
}  # fmt: skip
_CERTIFICATES = {
    "tls_ca_file": click.option(
        "--tls-ca-file", metavar="PATH", help="CA certificate of the scheduler, for TLS."
    ),
    "tls_cert": click.option("--tls-cert", metavar="PATH", help="Certificate of this client."),
    "tls_key": click.option("--tls-key", metavar="PATH", help="Private key of this client."),
}


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command these options; it gets the cluster spec as its argument `where`.

    It is a spec for `dresoftmax.launch`, or None for the threads of this process.
    """

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        clusters = {name: given.pop(name) for name in _CLUSTERS}
        certificates = {name: given.pop(name) for name in _CERTIFICATES}
        return command(where=_spec(_set(clusters), _set(certificates)), **given)

    for option in reversed([*_CLUSTERS.values(), *_CERTIFICATES.values()]):
        wrapper = option(wrapper)
    return wrapper


def _spec(clusters: dict[str, Any], certificates: dict[str, str]) -> Any:
    if len(clusters) > 1:
        raise click.UsageError(f"{' and '.join(map(_flag, clusters))} exclude each other; give one")
    if certificates and not {"scheduler", "scheduler_file"} & set(clusters):
        raise click.UsageError(
            f"{_flag(next(iter(certificates)))} is for --scheduler or --scheduler-file; "
            "a cluster spec has certificates as security"
        )
    match clusters:
        case {"cluster": path}:
            return path
        case {"workers": count}:
            from dresoftmax.launch import local_spec

            return local_spec(count)
        case {"scheduler": address}:
            target = {"address": address}
        case {"scheduler_file": path}:
            target = {"scheduler_file": path}
        case _:
            return None
    names = {"tls_cert": "tls_client_cert", "tls_key": "tls_client_key"}
    security = {names.get(name, name): path for name, path in certificates.items()}
    return {**target, "security": security, "timeout": CONNECT_TIMEOUT}


def _set(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
