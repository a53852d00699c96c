"""Which rows enter the Hessian, and with what weight: the part of it that is compiled.

Row i enters with probability πᵢ and weight 1/πᵢ; its variate is a function of (key, i), so
that neither the order of the work nor its division among workers changes a sketch.
"""

from __future__ import annotations

import numba
import numpy as np

from dresoftmax.kernels.arguments import EVERY_ROW, NO_ROW
from dresoftmax.kernels.tile_ops import FASTMATH

__all__ = ["inclusion", "uniforms"]

_jit = numba.njit(nogil=True, fastmath=FASTMATH)


@_jit
def _uniform(key: np.uint64, i: int) -> float:
    """Return the i-th variate in [0, 1) of stream `key` (SplitMix64)."""
    h = key + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h = h ^ (h >> np.uint64(31))
    return float(h >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(nogil=True, cache=True, fastmath=FASTMATH)
def uniforms(key: np.uint64, start: int, stop: int) -> np.ndarray:
    """Return the variates of stream `key` from `start` to `stop`."""
    out = np.empty(stop - start)
    for i in range(start, stop):
        out[i - start] = _uniform(key, i)
    return out


@_jit
def inclusion(rule, rate, leverage_rate, lever, key, i):
    """Return 1/π of row `i` if it enters the Hessian, else 0."""
    if rule == EVERY_ROW:
        return 1.0
    if rule == NO_ROW:
        return 0.0
    pi = min(1.0, rate + leverage_rate * lever)
    return 1.0 / pi if _uniform(key, i) < pi else 0.0
