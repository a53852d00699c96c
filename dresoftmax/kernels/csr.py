"""The fused loop over sparse rows in CSR: rows of one block, at K points → sums over those rows.

It returns what `dense` does.  Rows that enter the Hessian are added to it at once, as sparse
outer products.  Places of non-zeros are unsigned, since negative indices would need a look at
each.
"""

from __future__ import annotations

import numba
import numpy as np

from dresoftmax.kernels.arguments import NO_ROW
from dresoftmax.kernels.pointwise import close_lanes, first_bad, open_lanes, pointwise
from dresoftmax.kernels.row_sampling import inclusion
from dresoftmax.kernels.simd import LANES, add_four
from dresoftmax.kernels.sources import SOURCES
from dresoftmax.kernels.tile_ops import FASTMATH, TILE
from dresoftmax.model.layout import LEVERAGE, N_VECTORS

__all__ = ["csr_rows"]


@numba.njit(nogil=True, fastmath=FASTMATH)
def _aligned(size):
    """Return zeros that start with a cache line, so that no vector straddles two."""
    slack = np.zeros(size + LANES)
    start = -slack.ctypes.data % (LANES * slack.itemsize) // slack.itemsize
    return slack[start : start + size]


# Reassociated, sums would be vectorised, and gathers are slower than single loads.
@numba.njit(nogil=True, fastmath={"contract"})
def _product(data, indices, low, high, x, k):
    """Return the product of the row at low, …, high − 1 with x[k]."""
    y0 = y1 = y2 = y3 = 0.0
    whole = high - (high - low) % np.uintp(4)
    for at in range(low, whole, np.uintp(4)):
        y0 += data[at] * x[k, np.uintp(indices[at])]
        y1 += data[at + np.uintp(1)] * x[k, np.uintp(indices[at + np.uintp(1)])]
        y2 += data[at + np.uintp(2)] * x[k, np.uintp(indices[at + np.uintp(2)])]
        y3 += data[at + np.uintp(3)] * x[k, np.uintp(indices[at + np.uintp(3)])]
    for at in range(whole, high):
        y0 += data[at] * x[k, np.uintp(indices[at])]
    return (y0 + y1) + (y2 + y3)


def _compiled(sources):
    @numba.njit(nogil=True, cache=True, fastmath=FASTMATH)
    def csr_rows(block, start, stop, request, evaluate, output):
        """Add rows start, …, stop − 1 of a CSR block.

        `block` is a `CsrRows`; the other parameters and what is returned are those of
        `dense_rows`.
        """
        sources  # noqa: B018 (part of the key under which the machine code is kept)
        data, indices, indptr, b, w2, weight = block
        points, probes, rule = request.points, request.probes, request.rule
        rate, leverage_rate, key = request.rate, request.leverage_rate, request.key
        scalars, gram = output.scalars, output.gram
        K, d = points.shape
        G = gram.shape[0]
        kept = output.curvature.shape[0] if output.curvature.shape[1] > 0 else 0
        # Column by column, so that all sums of a non-zero lie in one place.
        sums = _aligned(d * K * N_VECTORS).reshape(d, K, N_VECTORS)
        factors = np.empty(N_VECTORS)
        z = np.empty((K, TILE))
        coef = np.empty((K, TILE // LANES, N_VECTORS * LANES))
        D = np.empty((max(G, K, kept), TILE))
        values = np.empty((3, K, TILE if request.own else 0))
        lanes = open_lanes(scalars)
        entered = 0
        bad = -1
        for row in range(start, stop, TILE):
            tile = min(TILE, stop - row)
            for t in range(tile):
                low, high = np.uintp(indptr[row + t]), np.uintp(indptr[row + t + 1])
                for k in range(K):
                    z[k, t] = _product(data, indices, low, high, points, k)
            for k in range(K):
                for t in range(tile, TILE):
                    z[k, t] = z[k, tile - 1]
            if request.own:
                evaluate(z, -(-tile // LANES) * LANES, values)
            finite = pointwise(z, row, tile, b, w2, weight, request, values, lanes, coef, D)
            if not finite and bad < 0:
                bad = first_bad(z[0], row, tile)
            for g in range(kept):
                for t in range(tile):
                    output.curvature[g, row - start + t] = D[g, t]
            for t in range(tile):
                low, high = np.uintp(indptr[row + t]), np.uintp(indptr[row + t + 1])
                for k in range(K):
                    for which in range(N_VECTORS):
                        factors[which] = coef[k, t // LANES, which * LANES + t % LANES]
                    for at in range(low, high):
                        add_four(sums, (np.uintp(indices[at]), k, 0), data[at], factors, 0)
                if rule == NO_ROW:
                    continue
                lever = 0.0
                for s in range(probes.shape[0]):
                    y = _product(data, indices, low, high, probes, s)
                    lever += y * y
                lever *= abs(D[0, t])
                scalars[0, LEVERAGE] += lever
                factor = inclusion(rule, rate, leverage_rate, lever, key, row + t)
                if factor == 0.0:
                    continue
                entered += 1
                for g in range(G):
                    for at in range(low, high):
                        value = D[g, t] * factor * data[at]
                        for other in range(at, high):
                            gram[g, indices[at], indices[other]] += value * data[other]
        for k in range(K):
            for which in range(N_VECTORS):
                for j in range(d):
                    output.vectors[k, which, j] += sums[j, k, which]
        close_lanes(lanes, scalars)
        return stop, entered, bad

    return csr_rows


csr_rows = _compiled(SOURCES)
