"""Launching: from a spec to a connected client, or to a description of the cluster.

`spec` defines what a spec is, `security` what is refused and which defaults are safe.
`open_cluster` and `describe` check the whole spec before anything starts.
"""

from __future__ import annotations

import inspect
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dresoftmax.launch.security import LOOPBACK, secure_arguments
from dresoftmax.launch.spec import ClusterSpec, Spec, read_spec

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["describe", "local_spec", "open_cluster"]


@contextmanager
def open_cluster(spec: Spec) -> Iterator[Client]:
    """Start the cluster of a spec, or connect to it, and close at the end what was opened.

    Parameters
    ----------
    spec : str, Path or dict
        A YAML file, or its content as a dict; `dresoftmax.launch.spec` describes it.

    Yields
    ------
    distributed.Client
        The current client until the context ends.

    Raises
    ------
    ValueError, TypeError
        Before anything starts, if the spec is wrong or a package is missing.
    OSError
        If the cluster does not start, or does not answer in time.

    Examples
    --------
    >>> from dresoftmax.launch import open_cluster
    >>> with open_cluster(
    ...     {
    ...         "cluster": "distributed.LocalCluster",
    ...         "arguments": {"n_workers": 1, "processes": False},
    ...     }
    ... ) as client:
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    checked = read_spec(spec)
    arguments = secure_arguments(checked)
    with ExitStack() as stack:
        try:
            client = _open(checked, arguments, stack)
        except (ValueError, TypeError):
            raise
        except Exception as error:  # each kind of cluster raises its own errors
            reason = str(error) or type(error).__name__
            raise ConnectionError(f"no cluster from {checked.name}: {reason}") from error
        yield client


def describe(spec: Spec) -> str:
    """Return what `open_cluster` would start, without starting it.

    Parameters
    ----------
    spec : str, Path or dict
        See `open_cluster`.

    Returns
    -------
    str
        The script of one job for dask-jobqueue, the manifest for dask-kubernetes, and plain
        words for any other cluster.

    Raises
    ------
    ValueError, TypeError, OSError
        As in `open_cluster`.

    Notes
    -----
    dask-jobqueue creates the `log_directory` of its jobs even for this.

    Examples
    --------
    >>> from dresoftmax.launch import describe
    >>> print(describe({"address": "tcp://127.0.0.1:8786"}))
    connect to tcp://127.0.0.1:8786 within 60 s
    """
    checked = read_spec(spec)
    arguments = secure_arguments(checked)
    match checked.kind:
        case "jobqueue":
            return _job_script(checked, arguments)
        case "kubernetes":
            return _manifest(checked, arguments)
    return _words(checked, arguments)


def local_spec(workers: int) -> dict[str, Any]:
    """Return the spec of `workers` processes on this machine that log only errors.

    Their scheduler has no dashboard, which would take time to import.
    """
    return {
        "cluster": "distributed.LocalCluster",
        "arguments": {
            "n_workers": workers,
            "processes": True,
            "dashboard_address": None,
            # By default its HTTP server takes port 8787, and warns if a dashboard has that port.
            "scheduler_kwargs": {"dashboard_address": LOOPBACK},
            "silence_logs": logging.ERROR,
        },
    }


def _open(spec: ClusterSpec, arguments: dict[str, Any], stack: ExitStack) -> Client:
    """Start or connect, and wait for workers; `stack` closes what is opened."""
    from distributed import Client, Security

    target: Any
    if spec.cluster is None:
        target = spec.address or _address_in(Path(spec.scheduler_file or ""), spec.timeout)
        security = Security(**spec.security)
        if "://" not in target and security.require_encryption:
            target = f"tls://{target}"
        _check_certificates(target, security)
    else:
        _check_submission(spec)
        with _remote_security(spec):
            target = stack.enter_context(spec.cluster(**arguments))
        security = target.security if hasattr(target, "security") else None
        if spec.scale:
            target.scale(**spec.scale)
        if spec.adapt:
            target.adapt(**spec.adapt)
    client = stack.enter_context(Client(target, security=security, timeout=spec.timeout))
    if spec.wait_for_workers:
        client.wait_for_workers(spec.wait_for_workers, timeout=spec.timeout)
    return client


def _address_in(file: Path, timeout: float) -> str:
    """Wait for a scheduler to write its file, and return the address in it."""
    end = time.monotonic() + timeout
    while True:
        try:
            return str(json.loads(file.read_text(encoding="utf-8"))["address"])
        except FileNotFoundError:
            problem: Exception = TimeoutError(f"there is no scheduler file {file}")
        except (ValueError, KeyError, TypeError):  # also while it is being written
            problem = ValueError(f"{file} is not a scheduler file; it has no address")
        if time.monotonic() > end:
            raise problem
        time.sleep(0.05)


def _check_certificates(address: str, security: Any) -> None:
    """Raise if the connection needs certificates and has none, or has them without TLS.

    Distributed would refuse as well, and leave a half-open client behind.
    """
    tls = security.get_tls_config_for_role("client")
    if security.require_encryption and not address.startswith("tls://"):
        raise ValueError(
            f"{address} is without encryption, although security has certificates; write tls://, "
            "or leave security out"
        )
    if address.startswith("tls://") and not (tls["ca_file"] and tls["cert"]):
        raise ValueError(
            f"{address} needs certificates; give tls_ca_file, tls_client_cert and tls_client_key "
            "as security, or --tls-ca-file, --tls-cert and --tls-key"
        )


def _check_submission(spec: ClusterSpec) -> None:
    """Raise if jobs cannot be submitted here; dask-jobqueue would only log it."""
    command = getattr(getattr(spec.cluster, "job_cls", None), "submit_command", None)
    if command and not shutil.which(command.split()[0]):
        raise FileNotFoundError(
            f"{command} is not on the path of this machine; launch where jobs are submitted"
        )


def _remote_security(spec: ClusterSpec) -> AbstractContextManager[Any]:
    """Set TLS in Dask's configuration, which SSHCluster sends to its hosts."""
    import dask
    from distributed import Security

    settings: dict[str, Any] = {}
    if spec.kind == "ssh" and spec.security:
        security = Security(**spec.security)
        settings["distributed.comm.require-encryption"] = security.require_encryption
        settings["distributed.comm.tls.ca-file"] = security.tls_ca_file
        for role in ("scheduler", "worker"):
            for part in ("cert", "key"):
                file = getattr(security, f"tls_{role}_{part}")
                settings[f"distributed.comm.tls.{role}.{part}"] = file
    return dask.config.set(settings)


def _job_script(spec: ClusterSpec, arguments: dict[str, Any]) -> str:
    """Return the job script of a cluster constructed in its own event loop but not started."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    cluster: Any = spec.cluster

    async def script() -> str:
        unstarted = cluster(**arguments, asynchronous=True)
        try:
            return str(unstarted.job_script())
        finally:
            await unstarted.close()

    with ThreadPoolExecutor(1) as thread:  # this thread may have a running loop
        return thread.submit(asyncio.run, script()).result()


def _manifest(spec: ClusterSpec, arguments: dict[str, Any]) -> str:
    """Return the manifest of the DaskCluster that dask-kubernetes would create."""
    import dask
    import yaml
    from dask_kubernetes.operator import make_cluster_spec

    custom = arguments.get("custom_cluster_spec")
    if isinstance(custom, str):
        return Path(custom).read_text(encoding="utf-8")
    if custom is None:
        taken = inspect.signature(make_cluster_spec).parameters
        custom = make_cluster_spec(
            **{
                "name": dask.config.get("kubernetes.name"),
                "n_workers": spec.scale.get("n", 0),
                "resources": {},
                "env": {},
                **{name: value for name, value in arguments.items() if name in taken},
            }
        )
    return str(yaml.safe_dump(custom, sort_keys=False))


def _words(spec: ClusterSpec, arguments: dict[str, Any]) -> str:
    """Return what would be done, one line per action."""
    import yaml

    if spec.cluster is None:
        subject = "the scheduler in " if spec.scheduler_file else ""
        lines = [f"connect to {subject}{spec.name} within {spec.timeout:g} s"]
    else:
        lines = [f"start {spec.name}"]
        shown = yaml.safe_dump(_public(arguments), sort_keys=False, default_flow_style=False)
        lines += [f"    {line}" for line in shown.splitlines() if arguments]
    for growth, amount in (("scale", spec.scale), ("adapt", spec.adapt)):
        if amount:
            lines.append(f"{growth} to {', '.join(f'{k} = {v}' for k, v in amount.items())}")
    if spec.wait_for_workers:
        count = f"{spec.wait_for_workers} worker{'s' * (spec.wait_for_workers > 1)}"
        lines.append(f"wait for {count}, {spec.timeout:g} s at most")
    return "\n".join(lines)


def _public(value: Any) -> Any:
    """Return `value` as plain data, with secrets masked."""
    if isinstance(value, Mapping):
        return {
            key: "***" if key in ("password", "passphrase") else _public(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_public(item) for item in value]
    return value if isinstance(value, str | int | float | None) else repr(value)
