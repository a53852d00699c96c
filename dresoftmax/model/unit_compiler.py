"""A user's own unit, as machine code that the fused loops call.

The three functions of a `Unit` are compiled into one, which evaluates all of them for a tile
of rows at once; the loops take its address, and so need not be compiled anew for a unit.
That takes a second, in each process once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types

__all__ = ["compiled", "no_unit", "values"]

# z of K points and some rows, the number of rows, and the array that receives u, u' and u''.
SIGNATURE = types.void(types.float64[:, ::1], types.int64, types.float64[:, :, ::1])

_compiled: dict[str, Any] = {}


def compiled(key: str, *functions: Callable[[float], float]) -> Any:
    """Return u, u' and u'' compiled into one function, which is made once for a key.

    Raises
    ------
    numba.core.errors.NumbaError
        If a function cannot be compiled.
    """
    if key not in _compiled:
        _compiled[key] = _compile(*map(_jitted, functions))
    return _compiled[key]


@numba.cfunc(SIGNATURE, cache=True)
def no_unit(z, rows, values):
    """Stand in for a unit if the loops call none."""


def values(evaluate: Any, z: np.ndarray) -> np.ndarray:
    """Return u, u' and u'' at each z, of shape (3, len(z))."""
    out = np.empty((3, 1, len(z)))
    _call(evaluate, np.ascontiguousarray(z, dtype=np.float64)[None], out)
    return out[:, 0]


def _jitted(function: Callable[[float], float]) -> Any:
    if hasattr(function, "py_func"):
        return function  # compiled already
    if not inspect.isfunction(function):  # math.exp, or a function of NumPy
        return numba.njit(lambda z: function(z))
    return numba.njit(function)


def _compile(u: Any, du: Any, d2u: Any) -> Any:
    @numba.cfunc(SIGNATURE)
    def evaluate(z, rows, values):
        for k in range(z.shape[0]):
            for t in range(rows):
                values[0, k, t] = u(z[k, t])
                values[1, k, t] = du(z[k, t])
                values[2, k, t] = d2u(z[k, t])

    return evaluate


@numba.njit(cache=True)
def _call(evaluate, z, values):
    evaluate(z, z.shape[1], values)
