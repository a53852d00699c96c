"""What is computed of each row by itself, in compiled form for the kernels.

With the references log α₀ and κ₀ of a point and e' = exp(z)/α₀,

    u' = e' + ℓz/α₀     v' = e' + ℓ/α₀     c' = u' − b     D = v'² + e'(c' − κ₀) + w²

and a row's random variate, which is a function of (key, row) alone.  Nothing
here touches A.

Numba caches the kernels under the time stamp of their own file: after a change
here, touch kernels.py.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["jit", "pointwise", "uniform", "uniforms"]

# Columns of the per-point scalars.
S, CC, CB, WZZ, ZMAX, LEVER, N_SCALARS = range(7)
# Rows of the per-point column sums.
V, VC, VB, WZ, N_VECTORS = range(5)

# Rows that are brought into cache together.
TILE = 64

# Reassociation lets sums be vectorised.  NaN and infinity keep their meaning:
# an overflowing trial is recognised by them.
jit = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
# Where the order of operations is what makes the result exact.
jit_ordered = numba.njit(nogil=True, cache=True, fastmath={"contract"})

LOG2_E = 1.4426950408889634
# ln 2 in two parts, the first with zeros at its end, so that n·LN2_HIGH is exact.
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding it rounds to an integer, which is then found in the last bits.
ROUND = 6755399441055744.0


@jit_ordered
def _exp(z, shift, n, out, power):
    """Store exp(z[:n] − shift) in `out`, with `power` for scratch.

    exp(x) = 2ᵏ·exp(r) with |r| ≤ ½ ln 2, by Taylor's polynomial of degree 13: within
    2 units in the last place, and in vector registers, where calls of the
    mathematical library would cost more than the rest of a read.  Arguments
    beyond ±708 count as ±708; NaN and infinities become NaN.
    """
    bits, exponents = out.view(np.int64), power.view(np.int64)
    for i in range(n):
        x = z[i] - shift
        x = x if x > -708.0 else -708.0
        x = x if x < 708.0 else 708.0
        k = x * LOG2_E + ROUND
        power[i] = k
        k -= ROUND
        r = (x - k * LN2_HIGH) - k * LN2_LOW
        p = 1.0 / 6227020800.0
        p = p * r + 1.0 / 479001600.0
        p = p * r + 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        p = p * r + 1.0
        out[i] = p * r + 1.0
    for i in range(n):
        bits[i] += exponents[i] << np.int64(52)
    for i in range(n):
        out[i] += 0.0 * z[i]


@jit
def uniform(key: np.uint64, i: int) -> float:
    """Return the i-th variate in [0, 1) of stream `key` (SplitMix64)."""
    h = key + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h = h ^ (h >> np.uint64(31))
    return float(h >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@jit
def uniforms(key: np.uint64, n: int) -> np.ndarray:
    """Return the first `n` variates of stream `key`."""
    out = np.empty(n)
    for i in range(n):
        out[i] = uniform(key, i)
    return out


@jit
def pointwise(
    z, row, tile, b, w2, weight, log_alpha, kappa, linear, scalars, coef, D, scratch
):  # fmt: skip
    """Turn z of a tile of rows into their coefficients; add the scalars.

    coef[k, :, t] receives the factors of row t in the column sums at point k,
    D[k, t] its factor in the Hessian.  A last line of D beyond the points has
    the factors in the metric AᵀA.
    """
    e, power, quadratic, counted = scratch
    for t in range(tile):
        quadratic[t] = w2[row + t if w2.size > 1 else 0]
        counted[t] = weight[row + t if weight.size > 1 else 0]
    target = b[row : row + tile]
    for k in range(z.shape[0]):
        # Without a linear part α may be so small that 1/α overflows.
        unit = linear * math.exp(-log_alpha[k]) if linear != 0.0 else 0.0
        _exp(z[k], log_alpha[k], tile, e, power)
        total = cc = cb = wzz = 0.0
        largest = scalars[k, ZMAX]
        for t in range(tile):
            v = e[t] + unit
            u = e[t] + unit * z[k, t]
            c = u - target[t]
            wz = counted[t] * quadratic[t] * z[k, t]
            total += counted[t] * u
            cc += counted[t] * c * c
            cb += counted[t] * c * target[t]
            wzz += wz * z[k, t]
            largest = max(largest, z[k, t])
            coef[k, V, t] = counted[t] * v
            coef[k, VC, t] = counted[t] * v * c
            coef[k, VB, t] = counted[t] * v * target[t]
            coef[k, WZ, t] = wz
            D[k, t] = counted[t] * (v * v + e[t] * (c - kappa[k]) + quadratic[t])
        scalars[k, S] += total
        scalars[k, CC] += cc
        scalars[k, CB] += cb
        scalars[k, WZZ] += wzz
        scalars[k, ZMAX] = largest
    for k in range(z.shape[0], D.shape[0]):
        for t in range(tile):
            D[k, t] = counted[t]
