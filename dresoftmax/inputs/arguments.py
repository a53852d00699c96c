"""Options → checked values, before any work is done."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dresoftmax.inputs.dataframes import is_a
from dresoftmax.model.units import UNITS, AnyUnit, Unit

__all__ = [
    "check_callback",
    "check_choice",
    "check_client",
    "check_count",
    "check_engine",
    "check_flag",
    "check_number",
    "check_path",
    "check_persist",
    "check_unit",
    "is_scalar",
]

# Points at which a user's unit is tested, and the step of its finite differences.
_PROBES, _STEP = np.array([-1.37, -0.41, 0.23, 1.19]), 1e-5


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")
    return str(value)


def check_unit(unit: Any) -> AnyUnit:
    """Return a unit by its name, or a user's own if it compiles and its derivatives are right."""
    if not isinstance(unit, Unit):
        return UNITS[check_choice("unit", unit, UNITS)]
    try:
        values = unit.values(_PROBES)
        above, below = unit.values(_PROBES + _STEP), unit.values(_PROBES - _STEP)
    except Exception as error:  # Numba raises errors of many types
        reason = str(error).strip().splitlines()[0]
        raise TypeError(
            f"unit {unit.name!r} cannot be compiled by Numba: {reason}; its functions must "
            "take and return a float, and use only arithmetic and the module math"
        ) from error
    slopes = (above - below)[:2] / (2.0 * _STEP)
    for name, of, claimed, slope in zip(
        ("du", "d2u"), ("u", "du"), values[1:], slopes, strict=True
    ):
        off = np.abs(claimed - slope) > 1e-5 * np.abs(values).max()
        if off.any():
            i = int(np.argmax(off))
            raise ValueError(
                f"unit {unit.name!r} has {name}({_PROBES[i]}) = {claimed[i]:.6g}, but the slope of "
                f"{of} there is {slope[i]:.6g}; pass the derivative of {of} as {name}"
            )
    return unit


def check_number(name: str, value: Any, *, positive: bool = False) -> float:
    """Return a finite number ≥ 0, or > 0 if `positive`; else raise."""
    if isinstance(value, bool | np.bool_ | str) or not is_scalar(value):
        raise TypeError(f"{name} is {value!r}; a number is needed")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}; a number is needed") from None
    if not math.isfinite(number) or number < 0.0 or (positive and number == 0.0):
        sign = "negative: " if number < 0.0 else ""
        bound = "> 0" if positive else ">= 0"
        raise ValueError(f"{name} is {sign}{value!r}; it must be finite and {bound}")
    return number


def check_count(name: str, value: Any, least: int = 0) -> int:
    """Return an integer ≥ `least`, else raise."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; an integer is needed") from None
    if isinstance(value, bool | np.bool_) or count < least:
        raise ValueError(f"{name} is {value!r}; an integer >= {least} is needed")
    return count


def check_callback(callback: Any) -> None:
    """Raise unless `callback` is None or callable."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; pass a function of one record")


def check_path(name: str, path: Any) -> Path | None:
    """Return the path of a file, or None; raise for anything else."""
    if path is None:
        return None
    try:
        return Path(path)
    except TypeError:
        raise TypeError(f"{name} is {path!r}; pass the path of a file") from None


def check_engine(engine: Any, client: Any, **data: Any) -> bool:
    """Return whether the rows go to Ray, or raise if they cannot."""
    check_choice("engine", engine, ("auto", "ray"))
    reasons = [f"{name} is a Ray Dataset" for name in data if is_a(data[name], "ray", "Dataset")]
    if engine == "ray":
        reasons.append('engine is "ray"')
    if not reasons:
        return False
    if client is not None:
        raise ValueError(
            f"{reasons[0]}, but client is a Dask client; leave client out to solve on Ray"
        )
    if find_spec("ray") is None:
        raise ValueError(f"{reasons[0]}; this needs ray: python -m pip install 'dresoftmax[ray]'")
    return True


def check_client(client: Any) -> None:
    """Raise unless `client` is None or a synchronous Dask client."""
    if client is None:
        return
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(f"client is {client!r}; pass a distributed.Client, for example Client()")
    if client.asynchronous:
        raise TypeError(
            "client is asynchronous, and solve would block its event loop; call "
            "await asyncio.to_thread(dresoftmax.solve, A, b, client=client)"
        )


def check_flag(name: str, value: Any) -> None:
    """Raise unless `value` is a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; pass True or False")


def check_persist(persist: Any) -> None:
    """Raise unless `persist` is None or a bool."""
    if persist is not None and not isinstance(persist, bool):
        raise TypeError(f"persist is {persist!r}; pass True, False, or None to hold A if it fits")


def is_scalar(value: Any) -> bool:
    """Whether `value` is a number, or a zero-dimensional array."""
    return np.isscalar(value) or (isinstance(value, np.ndarray) and value.ndim == 0)
