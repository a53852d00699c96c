"""z of a tile of rows → what each row counts with in every sum, and the sums of single numbers.

For each row and point the unit and its derivatives are taken in units of the reference α₀,
u' = u(z)/α₀, v' = u'(z)/α₀, e' = u''(z)/α₀, and

    c' = u' − b     D = v'² + e'(c' − κ₀) + ωw²

where ω is 1, or α₀⁻² where the loss is in units of α.

As in `simd`, nothing here is cached by itself, see `dense.DIGESTS`.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from dresoftmax.kernels.simd import LANES, larger, load, splat, store, total
from dresoftmax.kernels.tile_ops import FASTMATH, OPTIONS, VB, VC, WZ, V, add_to, column, exp

__all__ = ["LEVER", "N_SCALARS", "close_lanes", "first_bad", "open_lanes", "pointwise"]

# Columns of the per-point scalars.
S, CC, CB, BB, WZZ, ZMAX, LEVER, N_SCALARS = range(8)

_jit = numba.njit(nogil=True, fastmath=FASTMATH)


@numba.njit(**OPTIONS)
def pointwise(
    z, row, tile, b, w2, weight, targets, log_alpha, kappa, penalty, family, own, values,
    scalars, coef, D,
):  # fmt: skip
    """Turn z of a tile of rows into their coefficients; add the scalars.

    coef[k, t // 8] receives the factors of eight rows in the first, second, …
    column sum at point k, D[k, t] the factor of row t in the Hessian.  A last line
    of D beyond the points has the factors in the metric AᵀA.  The scalars are kept
    apart by lane.  Returns whether z is finite at the first point.
    """
    rising, falling, linear = family
    finite = True
    for k in range(z.shape[0]):
        # Only where it is needed: α may be so small that 1/α overflows.
        inverse = math.exp(-log_alpha[k]) if own or linear != 0.0 else 0.0
        slope = linear * inverse
        odd = splat(0.0)
        for t in range(0, tile, LANES):
            zt = load(z, (k, t), LANES)
            count = tile - t
            counted = column(weight, row + t, count)
            quadratic = column(w2, row + t, count) * penalty[k]
            target = load(b, (targets[k], row + t), count)
            top = zt
            if own:
                u = load(values, (0, k, t), LANES) * inverse
                v = load(values, (1, k, t), LANES) * inverse
                e = load(values, (2, k, t), LANES) * inverse
            else:
                e = exp(zt - log_alpha[k]) * rising
                v = e + slope
                u = e + zt * slope
                if falling != 0.0:
                    down = exp(zt * -1.0 - log_alpha[k]) * falling
                    e, v, u = e + down, v - down, u + down
                    top = larger(zt, zt * -1.0)
            c = u - target
            cv, cc, wz = counted * v, counted * c, counted * quadratic * zt
            add_to(scalars, (k, S, 0), cc + counted * target)
            add_to(scalars, (k, CC, 0), cc * c)
            add_to(scalars, (k, CB, 0), cc * target)
            add_to(scalars, (k, BB, 0), counted * target * target)
            add_to(scalars, (k, WZZ, 0), wz * zt)
            store(scalars, (k, ZMAX, 0), larger(top, load(scalars, (k, ZMAX, 0), LANES)))
            store(coef, (k, t // LANES, V * LANES), cv)
            store(coef, (k, t // LANES, VC * LANES), cv * c)
            store(coef, (k, t // LANES, VB * LANES), cv * target)
            store(coef, (k, t // LANES, WZ * LANES), wz)
            store(D, (k, t), counted * (v * v + e * (c - kappa[k]) + quadratic))
            odd = odd + zt * 0.0
        if k == 0:
            finite = total(odd) == 0.0
    for k in range(z.shape[0], D.shape[0]):
        for t in range(0, tile, LANES):
            store(D, (k, t), column(weight, row + t, tile - t))
    return finite


@_jit
def first_bad(z, row, tile):
    """Return the first row of a tile with z not finite, or -1."""
    for t in range(tile):
        if not math.isfinite(z[t]):
            return row + t
    return -1


@_jit
def open_lanes(scalars):
    """Return a place for the scalars, by lane."""
    lanes = np.zeros((*scalars.shape, LANES))
    lanes[:, ZMAX] = -np.inf
    return lanes


@_jit
def close_lanes(lanes, scalars):
    """Add up the scalars that were kept apart by lane."""
    for k in range(scalars.shape[0]):
        for lane in range(LANES):
            for which in (S, CC, CB, BB, WZZ):
                scalars[k, which] += lanes[k, which, lane]
            scalars[k, ZMAX] = max(scalars[k, ZMAX], lanes[k, ZMAX, lane])
