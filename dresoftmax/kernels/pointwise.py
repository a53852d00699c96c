"""z of a tile of rows → what each row counts with in every sum, and the sums of single numbers.

For each row and point the unit and its derivatives are taken in units of the reference α₀,
u' = u(z)/α₀, v' = u'(z)/α₀ and e' = u''(z)/α₀.  What a loss makes of them is its own
`row_terms`, which are compiled into the loop; the penalty adds ωw² to their D, and ω is 1,
or α₀⁻² for a loss in units of α².
"""

from __future__ import annotations

import math

import numba
import numpy as np

from dresoftmax.kernels.simd import LANES, larger, load, splat, store, total
from dresoftmax.kernels.tile_ops import FASTMATH, add_to, column, exp, inline
from dresoftmax.model.layout import (
    LARGEST_Z,
    LEVERAGE,
    LOSS_SCALARS,
    LOSS_VECTORS,
    PENALTY,
    PENALTY_VECTOR,
    SLOPE,
    TOTAL,
)
from dresoftmax.model.losses import ROW_TERMS

__all__ = ["close_lanes", "first_bad", "open_lanes", "pointwise"]

ONE, TWO, THREE = LOSS_SCALARS
FIRST, SECOND = LOSS_VECTORS

_jit = numba.njit(nogil=True, fastmath=FASTMATH)


def _by_number(terms, number=0):
    """Return a function that calls the one of `terms` whose number comes first among its arguments.

    The number is the same in all rows, so that the compiler takes the choice out of the loop.
    """
    first = inline(terms[0])
    if len(terms) == 1:
        return inline(lambda chosen, *row: first(*row))
    others = _by_number(terms[1:], number + 1)

    @inline
    def choose(chosen, *row):
        return first(*row) if chosen == number else others(chosen, *row)

    return choose


_row_terms = _by_number(ROW_TERMS)


@inline
def pointwise(z, row, tile, b, w2, weight, request, values, scalars, coef, D):
    """Turn z of a tile of rows into their coefficients; add the scalars.

    coef[k, t // 8] receives the factors of eight rows in the first, second, …
    column sum at point k, D[k, t] the factor of row t in the Hessian.  A last line
    of D beyond the points has the factors in AᵀA.  The scalars are kept apart by
    lane.  Returns whether z is finite at the first point.
    """
    rising, falling, linear = request.family
    finite = True
    for k in range(z.shape[0]):
        log_alpha, kappa = request.log_alpha[k], request.kappa[k]
        factor, line = request.penalty[k], request.targets[k]
        # Only if it is needed: α may be so small that 1/α overflows.
        inverse = math.exp(-log_alpha) if request.own or linear != 0.0 else 0.0
        slope = linear * inverse
        odd = splat(0.0)
        for t in range(0, tile, LANES):
            zt = load(z, (k, t), LANES)
            count = tile - t
            m = column(weight, row + t, count)
            penalty = m * (column(w2, row + t, count) * factor)
            target = load(b, (line, row + t), count)
            top = zt
            if request.own:
                u = load(values, (0, k, t), LANES) * inverse
                v = load(values, (1, k, t), LANES) * inverse
                e = load(values, (2, k, t), LANES) * inverse
            else:
                e = exp(zt - log_alpha) * rising
                v = e + slope
                u = e + zt * slope
                if falling != 0.0:
                    down = exp(zt * -1.0 - log_alpha) * falling
                    e, v, u = e + down, v - down, u + down
                    top = larger(zt, zt * -1.0)
            one, two, three, first, second, curvature = _row_terms(
                request.loss, m, u, v, e, target, kappa
            )
            wz = penalty * zt
            add_to(scalars, (k, TOTAL, 0), m * u)
            add_to(scalars, (k, ONE, 0), one)
            add_to(scalars, (k, TWO, 0), two)
            add_to(scalars, (k, THREE, 0), three)
            add_to(scalars, (k, PENALTY, 0), wz * zt)
            store(scalars, (k, LARGEST_Z, 0), larger(top, load(scalars, (k, LARGEST_Z, 0), LANES)))
            store(coef, (k, t // LANES, SLOPE * LANES), m * v)
            store(coef, (k, t // LANES, FIRST * LANES), first)
            store(coef, (k, t // LANES, SECOND * LANES), second)
            store(coef, (k, t // LANES, PENALTY_VECTOR * LANES), wz)
            store(D, (k, t), curvature + penalty)
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
    lanes[:, LARGEST_Z] = -np.inf
    return lanes


@_jit
def close_lanes(lanes, scalars):
    """Add up the scalars that were kept apart by lane."""
    for k in range(scalars.shape[0]):
        for lane in range(LANES):
            for which in range(LEVERAGE):
                if which == LARGEST_Z:
                    scalars[k, which] = max(scalars[k, which], lanes[k, which, lane])
                else:
                    scalars[k, which] += lanes[k, which, lane]
