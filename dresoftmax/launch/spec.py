"""A cluster spec, read from YAML or a dict, and checked before anything starts.

A spec names a cluster class and its arguments, as Dask names them, or a running scheduler::

    cluster: dask_jobqueue.SLURMCluster     a subclass of distributed.deploy.Cluster
    arguments: {cores: 8, memory: 32GB}     its arguments
    scale: {jobs: 4}                        or a number; or adapt: {minimum: 1, maximum: 9}

    address: tls://host:8786                or scheduler_file: scheduler.json

    security: {tls_ca_file: ca.pem}         arguments of distributed.Security
    wait_for_workers: 4
    timeout: 60s                            for connecting, and for waiting

File names in a spec are relative to the working directory, as in Dask.  A spec names code that
will run: use only specs from people whose programs you would run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["ClusterSpec", "Spec", "read_spec"]

Spec: TypeAlias = str | Path | Mapping[str, Any]

_KEYS: dict[str, tuple[tuple[type, ...], str]] = {
    "cluster": ((str,), "the dotted name of a class"),
    "arguments": ((Mapping,), "a mapping of arguments of the cluster"),
    "scale": ((int, Mapping), "a number of workers, or a mapping of arguments of cluster.scale"),
    "adapt": ((Mapping,), "a mapping of arguments of cluster.adapt"),
    "address": ((str,), "the address of a scheduler"),
    "scheduler_file": ((str, Path), "the path of a scheduler file"),
    "security": ((Mapping,), "a mapping of arguments of distributed.Security"),
    "wait_for_workers": ((int,), "a number of workers"),
    "timeout": ((str, int, float), "a time, as in 60s"),
}
_TARGETS = ("cluster", "address", "scheduler_file")
_EXTRAS = {"dask_jobqueue": "jobqueue", "dask_kubernetes": "kubernetes"}
# Packages whose classes pass further arguments on to classes that name them all.
_KNOWN = ("distributed", *_EXTRAS)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A valid spec, as far as can be checked without starting anything.

    Attributes
    ----------
    name : str
        The cluster class, address or scheduler file, for messages.
    cluster : callable or None
        The class of the cluster, or `distributed.SSHCluster`; None for a running scheduler.
    arguments, scale, adapt, security : dict
        Empty if the spec does not have them.
    address, scheduler_file : str or None
    wait_for_workers : int
    timeout : float
        In seconds.
    """

    name: str
    cluster: Callable[..., Any] | None
    arguments: dict[str, Any]
    scale: dict[str, Any]
    adapt: dict[str, Any]
    security: dict[str, Any]
    address: str | None
    scheduler_file: str | None
    wait_for_workers: int
    timeout: float

    @property
    def kind(self) -> str:
        """One of "ssh", "jobqueue", "kubernetes", "local", "other" and "running"."""
        from distributed import LocalCluster

        if self.cluster is None:
            return "running"
        if not isinstance(self.cluster, type):
            return "ssh"
        if hasattr(self.cluster, "job_cls"):
            return "jobqueue"
        if self.cluster.__module__.startswith("dask_kubernetes."):
            return "kubernetes"
        return "local" if issubclass(self.cluster, LocalCluster) else "other"


def read_spec(spec: Spec) -> ClusterSpec:
    """Return the checked `spec`, given as a dict or the path of a YAML file.

    Raises
    ------
    ValueError, TypeError
        If the spec is not valid, or a package is missing.
    OSError
        If there is no such file.
    """
    said = _load(Path(spec)) if isinstance(spec, str | Path) else spec
    _check_keys(said)
    scale = said.get("scale", {})
    started = "cluster" in said
    read = ClusterSpec(
        name=str(next(said[key] for key in _TARGETS if key in said)),
        cluster=_find(said["cluster"]) if started else None,
        arguments=dict(said.get("arguments", {})),
        scale=dict(scale) if isinstance(scale, Mapping) else {"n": scale},
        adapt=dict(said.get("adapt", {})),
        security=_absolute(said.get("security", {})),
        address=said.get("address"),
        scheduler_file=str(said["scheduler_file"]) if "scheduler_file" in said else None,
        # An adaptive cluster may have no workers until there is work.
        wait_for_workers=said.get("wait_for_workers", int(started and "adapt" not in said)),
        timeout=_seconds(said.get("timeout", "60s")),
    )
    if started:
        _check_cluster(read)
    _check_security(read)
    return read


def _load(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"the cluster spec {path} does not exist") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"the cluster spec {path} is not valid YAML: {error}") from error


def _check_keys(spec: Any) -> None:
    """Raise if keys are unknown, of a wrong type, or not allowed together."""
    if not isinstance(spec, Mapping):
        raise TypeError(f"the cluster spec is {spec!r}; a mapping is needed, with {_list(_KEYS)}")
    _refuse("the cluster spec has", set(spec) - set(_KEYS), _KEYS)
    for key, value in spec.items():
        types, words = _KEYS[key]
        if not isinstance(value, types) or isinstance(value, bool):
            raise TypeError(f"{key} is {value!r}; {words} is needed")
    targets = [key for key in _TARGETS if key in spec]
    if len(targets) != 1:
        found = " and ".join(targets) or "none of them"
        raise ValueError(f"the cluster spec has {found}; give one of {_list(_TARGETS)}")
    growth = [key for key in ("arguments", "scale", "adapt") if key in spec]
    if growth and "cluster" not in spec:
        raise ValueError(f"{growth[0]} is for a cluster that is started, but {targets[0]} is given")
    if "scale" in spec and "adapt" in spec:
        raise ValueError("scale and adapt exclude each other; give one")
    if spec.get("wait_for_workers", 0) < 0:
        raise ValueError(f"wait_for_workers is {spec['wait_for_workers']}; it must be >= 0")


def _find(name: str) -> Callable[..., Any]:
    """Return the class of this name, or raise and name the missing package."""
    from distributed import SSHCluster
    from distributed.deploy import Cluster

    module, _, attribute = name.rpartition(".")
    if not all(part.isidentifier() for part in name.split(".")) or not module:
        raise ValueError(
            f"cluster is {name!r}; give the module too, as in distributed.LocalCluster"
        )
    try:
        found: Any = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(
            f"cluster is {name}, but {error}{_install(_EXTRAS.get(module.split('.')[0]))}"
        ) from error
    if found is SSHCluster:
        if find_spec("asyncssh") is None:
            raise ValueError(f"cluster is {name}, which needs asyncssh{_install('ssh')}")
        return SSHCluster
    if not (isinstance(found, type) and issubclass(found, Cluster)):
        raise ValueError(
            f"cluster is {name}, which is not a subclass of distributed.deploy.Cluster; give one "
            "such as distributed.LocalCluster or dask_jobqueue.SLURMCluster"
        )
    return found


def _check_cluster(spec: ClusterSpec) -> None:
    """Raise if the cluster does not take an argument, or cannot scale or adapt as given."""
    cluster, arguments = spec.cluster, spec.arguments
    for name in {"asynchronous", "loop"} & set(arguments):
        raise ValueError(f"arguments has {name}, but the cluster runs in its own event loop")
    if arguments.get("security", True) is not True or (
        spec.kind == "ssh" and "security" in arguments
    ):
        raise ValueError("arguments has security; write it beside arguments, as security:")
    known = _parameters(spec)
    if known is not None:
        given = {*arguments, *(["security"] if spec.security else [])}
        _refuse(f"{spec.name} takes no argument", given - known, known)
    growth = "scale" if spec.scale else "adapt" if spec.adapt else None
    if growth and spec.kind == "ssh":
        raise ValueError(f"an SSHCluster cannot {growth}; its hosts say how many workers")
    if growth:
        signature = inspect.signature(getattr(cluster, growth))
        if all(p.kind is not p.VAR_KEYWORD for p in signature.parameters.values()):
            known = set(signature.parameters) - {"self"}
            _refuse(f"{growth} of {spec.name} takes no", set(getattr(spec, growth)) - known, known)


def _parameters(spec: ClusterSpec) -> set[str] | None:
    """Return the names of the arguments that constructors take; None if that is unknown."""
    from distributed import Nanny, SpecCluster, SSHCluster, Worker

    cluster: Any = spec.cluster
    if spec.kind == "ssh":
        return _named([SSHCluster, SpecCluster.__init__])
    classes: list[type] = [cluster]
    if spec.kind == "local":
        classes += [Nanny, Worker]
    if spec.kind == "jobqueue":
        classes += [cluster.job_cls]
    own = inspect.signature(cluster).parameters.values()
    known = cluster.__module__.split(".")[0] in _KNOWN
    if any(p.kind is p.VAR_KEYWORD for p in own) and not known:
        return None
    bases = [base for each in classes for base in each.__mro__]
    return _named([vars(base)["__init__"] for base in bases if "__init__" in vars(base)])


def _named(functions: Iterable[Callable[..., Any]]) -> set[str]:
    return {
        name
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    } - {"self", "asynchronous", "loop"}


def _check_security(spec: ClusterSpec) -> None:
    """Raise if Security refuses an argument, or a file that is read here does not exist."""
    from distributed import Security

    Security(**spec.security)
    for key, file in spec.security.items():
        here = spec.kind != "ssh" or key.startswith(("tls_ca", "tls_client"))
        if _is_file(key, file) and here and not Path(file).is_file():
            raise FileNotFoundError(f"security has {key}: {file}, but there is no such file")


def _absolute(security: Mapping[str, Any]) -> dict[str, Any]:
    """Return `security` with absolute paths, which stay valid in another directory."""
    return {
        key: str(Path(value).absolute()) if _is_file(key, value) else value
        for key, value in security.items()
    }


def _is_file(key: str, value: Any) -> bool:
    # Dask also takes the text of a certificate, which has several lines, in place of its file.
    return key.endswith(("_file", "_cert", "_key")) and isinstance(value, str) and "\n" not in value


def _seconds(time: Any) -> float:
    from dask.utils import parse_timedelta

    try:
        return float(parse_timedelta(time))
    except (ValueError, KeyError):
        raise ValueError(f"timeout is {time!r}; a time is needed, as in 60s") from None


def _install(extra: str | None) -> str:
    return f": python -m pip install 'dresoftmax[{extra}]'" if extra else ""


def _refuse(subject: str, unknown: set[Any], known: Collection[str]) -> None:
    if unknown:
        near = [n for name in unknown for n in get_close_matches(str(name), known)]
        raise ValueError(f"{subject} {_list(map(str, unknown))}; there is {_list(near or known)}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
