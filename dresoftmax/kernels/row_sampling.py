"""Which rows enter the Hessian, and with what weight: the part of it that is compiled.

Row i enters with probability πᵢ and weight 1/πᵢ, or goes into a bucket with a random sign;
its variate is a function of (key, i), so that neither the order of the work nor its division
among workers changes a sketch.

As in `simd`, what the kernels call is not cached by itself, see `dense.DIGESTS`.
"""

from __future__ import annotations

import numba
import numpy as np

from dresoftmax.kernels.tile_ops import FASTMATH

__all__ = [
    "EVERY_ROW",
    "HASHED",
    "NO_ROW",
    "SAMPLED",
    "bucket",
    "inclusion",
    "open_panel",
    "uniforms",
]

# How rows enter the Hessian.
NO_ROW, EVERY_ROW, SAMPLED, HASHED = range(4)

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
def uniforms(key: np.uint64, n: int) -> np.ndarray:
    """Return the first `n` variates of stream `key`."""
    out = np.empty(n)
    for i in range(n):
        out[i] = _uniform(key, i)
    return out


@_jit
def inclusion(rule, rate, leverage_rate, lever, key, i):
    """Return 1/π of row `i` where it enters the Hessian, else 0."""
    if rule in (EVERY_ROW, HASHED):
        return 1.0
    if rule == NO_ROW:
        return 0.0
    pi = min(1.0, rate + leverage_rate * lever)
    return 1.0 / pi if _uniform(key, i) < pi else 0.0


@_jit
def bucket(key, i, buckets):
    """Return the bucket of row `i` and its random sign, for HASHED."""
    place = 2.0 * buckets * _uniform(key, i)
    return min(int(place) // 2, buckets - 1), 1.0 if int(place) % 2 == 0 else -1.0


@_jit
def open_panel(rule, rate, start, stop, buffer, filled):
    """Return where this call has to stop, its buckets zeroed, for HASHED."""
    if rule != HASHED:
        return stop
    capacity = buffer.shape[2]
    stop = min(stop, start + max(1, int(capacity / rate)))
    buckets = min(capacity, max(1, round((stop - start) * rate)))
    buffer[:, :, :buckets] = 0.0
    filled[:] = buckets
    return stop
