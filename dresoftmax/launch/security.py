"""Safe defaults for a cluster that a spec starts, and protection against shell injection.

Anyone who can reach a Dask scheduler can run code on its workers.  So a scheduler started for a
spec listens only on this machine, or on an address that the spec names, or with TLS.  Its
dashboard listens only on its own machine, unless the spec says otherwise.

dask-jobqueue and SSHCluster write values of a spec into scripts and commands without quoting.
A value that is not meant as shell code is refused if a shell would not read it as one word.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dresoftmax.launch.spec import ClusterSpec

__all__ = ["secure_arguments"]

LOOPBACK = "127.0.0.1:0"

# Arguments of dask-jobqueue that are shell code, and those that appear only in comments.
_SHELL = {"job_script_prologue", "env_extra"}
_DIRECTIVES = {
    "queue", "project", "account", "walltime", "resource_spec", "memory",
    "job_extra", "job_extra_directives", "job_directives_skip", "header_skip",
}  # fmt: skip

_WORD = re.compile(r"[\w@%+=:,./-]*"), "a single word without characters that a shell reads"
_LINE = re.compile(r"[^\x00-\x1f\x7f]*"), "a single line"
_INTERPRETER = re.compile(r"#![^\x00-\x1f\x7f]*"), "a line such as '#!/usr/bin/env bash'"
_QUOTABLE = re.compile(r"[^']*"), "text without single quotes"


def secure_arguments(spec: ClusterSpec) -> dict[str, Any]:
    """Return the arguments of the cluster with safe defaults, or raise ValueError.

    `spec.security` is among them, as a `distributed.Security`.
    """
    from distributed import Security

    listens: Mapping[str, Any]
    security = Security(**spec.security)
    arguments = dict(spec.arguments)
    if spec.security:
        arguments["security"] = security
    encrypted = security.require_encryption or arguments.get("security") is True
    match spec.kind:
        case "local":
            arguments.setdefault("dashboard_address", LOOPBACK)
            options = _mapping(arguments, "scheduler_kwargs")
            own = {"host", "interface"} & set(arguments)
            default = {} if own else {"host": "127.0.0.1"}
            listens = {**default, **{name: arguments[name] for name in own}, **options}
            advice = "host: ADDRESS"
        case "ssh":
            _check_commands(arguments)
            options = {"dashboard_address": LOOPBACK, **_mapping(arguments, "scheduler_options")}
            if encrypted:  # the remote scheduler gets no Security object
                options.setdefault("protocol", "tls")
            listens = arguments["scheduler_options"] = options
            advice = "scheduler_options: {host: ADDRESS} or {interface: NAME}"
        case "jobqueue":
            _check_script(arguments, spec.security)
            options, interface = _of_jobs(spec)
            arguments["scheduler_options"] = options
            own = {"host", "interface"} & set(options)
            listens = options if own else {"interface": interface}
            advice = "interface: NAME, or scheduler_options: {host: ADDRESS}"
        case _:
            return arguments
    if not encrypted and _everywhere(listens):
        raise ValueError(
            f"{spec.name} would start a scheduler that listens on every address of its machine "
            f"without encryption, and anyone who reaches it could run code; write {advice} into "
            "arguments, or give certificates as security"
        )
    return arguments


def _of_jobs(spec: ClusterSpec) -> tuple[dict[str, Any], str | None]:
    """Return the options of the scheduler and the interface, with the site's configuration."""
    import dask

    cluster: Any = spec.cluster
    section = spec.arguments.get("config_name") or cluster.job_cls.default_config_name()
    site = dask.config.get(f"jobqueue.{section}", {})
    options = {
        "dashboard_address": LOOPBACK,
        **(site.get("scheduler-options") or {}),
        **_mapping(spec.arguments, "scheduler_options"),
    }
    return options, spec.arguments.get("interface") or site.get("interface")


def _everywhere(listens: Mapping[str, Any]) -> bool:
    """Whether a scheduler with these options listens on every address of its machine."""
    if listens.get("interface"):
        return False
    host = str(listens.get("host") or "").rpartition("://")[2]
    bare = re.sub(r"^\[(.*)\](:\d*)?$|^([^:]*):\d*$", r"\1\3", host)
    try:
        return ipaddress.ip_address(bare).is_unspecified
    except ValueError:
        return not bare


def _check_commands(arguments: Mapping[str, Any]) -> None:
    """Raise if an argument would break out of the commands of SSHCluster.

    It writes `remote_python` as it is, and the rest as JSON within single quotes.
    """
    _check("remote_python", arguments.get("remote_python"), _WORD)
    for name in ("worker_class", "worker_options", "scheduler_options"):
        _check(name, arguments.get(name), _QUOTABLE)


def _check_script(arguments: Mapping[str, Any], security: Mapping[str, Any]) -> None:
    """Raise if an argument would add shell code to the script of dask-jobqueue."""
    for name, value in arguments.items():
        if name in _DIRECTIVES:
            _check(name, value, _LINE)
        elif name == "shebang":
            _check(name, value, _INTERPRETER)
        elif name not in {"scheduler_options", "security", *_SHELL}:
            _check(name, value, _WORD)
    for name, value in security.items():
        _check(name, value, _WORD)
    needed = {"tls_ca_file", "tls_worker_cert", "tls_worker_key"}
    if security and not needed <= set(security):
        raise ValueError(
            f"security lacks {', '.join(sorted(needed - set(security)))}, which the workers of "
            "a job need to start"
        )


def _check(name: str, value: Any, rule: tuple[re.Pattern[str], str]) -> None:
    pattern, words = rule
    for text in _texts(value):
        if not pattern.fullmatch(text):
            raise ValueError(f"{name} is {value!r}, which would reach a shell; it must be {words}")


def _texts(value: Any) -> Iterator[str]:
    """Yield all strings within `value`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _mapping(arguments: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = arguments.get(name) or {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is {value!r}; a mapping is needed")
    return dict(value)
