"""The fused loop over dense rows: rows of one block, at K points → sums over those rows.

A tile of rows is brought into cache, and everything that one read returns is computed from it
there: z = Ax, the pointwise functions (`pointwise`), the weighted column sums Aᵀ(·), and the
rows that enter the Hessian (`row_sampling`).

No algebra of the objective and no Python objects come in here.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from dresoftmax.kernels.arguments import NO_ROW, SAMPLED
from dresoftmax.kernels.pointwise import close_lanes, first_bad, open_lanes, pointwise
from dresoftmax.kernels.row_sampling import inclusion
from dresoftmax.kernels.simd import LANES, splat, store, wide
from dresoftmax.kernels.sources import SOURCES
from dresoftmax.kernels.tile_ops import (
    FASTMATH,
    TILE,
    add_gram,
    add_rows,
    eight,
    first_products,
    products,
)
from dresoftmax.model.layout import LEVERAGE, N_VECTORS

__all__ = ["dense_rows"]

# Bytes of a tile's rows that are enough.
TILE_BYTES = 1 << 14


def _compiled(sources):
    @numba.njit(nogil=True, cache=True, fastmath=FASTMATH)
    def dense_rows(block, start, stop, request, evaluate, output):
        """Add rows start, start+1, … of a dense block until `stop` or a full buffer.

        Parameters
        ----------
        block : DenseRows
        start, stop : int
        request : Request
        evaluate : function
            A user's own unit, see `unit_compiler`.  (Numba looks long at it, and at a tuple that
            has it even longer.)
        output : Output

        Returns
        -------
        row : int
            First row that was not read.
        entered : int
            Rows that entered the Hessian.
        bad : int
            First row whose z at the first point is not finite, or -1.
        """
        sources  # noqa: B018 (part of the key under which the machine code is kept)
        A, b, w2, weight = block
        points, probes, rule = request.points, request.probes, request.rule
        rate, leverage_rate, key = request.rate, request.leverage_rate, request.key
        scalars, buffer, filled = output.scalars, output.buffer, output.filled
        K, d = points.shape
        G, _, capacity, _ = buffer.shape
        here = output.gram.shape[0]
        kept = output.curvature.shape[0] if output.curvature.shape[1] > 0 else 0
        rows_per_tile = min(TILE, max(LANES, TILE_BYTES // (d * A.itemsize) // LANES * LANES))
        padded = -(-d // LANES) * LANES
        x = np.zeros((K, padded))
        # By loops: for an assignment of slices Numba would compile its message of an error, too.
        for k in range(K):
            for j in range(d):
                x[k, j] = points[k, j]
        # Leverages are estimates: the precision in which A is stored will do.
        p = np.zeros((probes.shape[0], padded), A.dtype)
        for s in range(probes.shape[0]):
            for j in range(d):
                p[s, j] = probes[s, j]
        z = np.empty((K, TILE))
        coef = np.empty((K, TILE // LANES, N_VECTORS * LANES))
        D = np.empty((max(G, K, here, kept), TILE))
        values = np.empty((3, K, TILE if request.own else 0))
        grams = np.zeros((here, padded, padded))
        copied = np.zeros((TILE if here > 0 else 0, padded))
        lever = np.zeros(TILE)
        sums = np.zeros((K, padded // LANES, N_VECTORS * LANES))
        lanes = open_lanes(scalars)
        weighted = w2.size > 1 or w2[0] > 0.0
        entered = 0
        bad = -1
        row = start
        while row < stop:
            tile = min(rows_per_tile, stop - row)
            if G > 0:
                tile = min(tile, capacity - filled.max())
                if tile == 0:
                    break
            for t in range(0, tile, LANES):
                rows = eight(row + t, row + tile - 1)
                store(z, (0, t), first_products(A, rows, x))
                for k in range(1, K):
                    store(z, (k, t), products(A, rows, x, k))
                if rule == SAMPLED:
                    square = splat(0.0)
                    for s in range(p.shape[0]):
                        y = wide(products(A, rows, p, s))
                        square = square + y * y
                    store(lever, t, square)
            if request.own:
                evaluate(z, -(-tile // LANES) * LANES, values)
            finite = pointwise(z, row, tile, b, w2, weight, request, values, lanes, coef, D)
            if not finite and bad < 0:
                bad = first_bad(z[0], row, tile)
            add_rows(A, row, tile, coef, weighted, sums)
            for g in range(kept):
                for t in range(tile):
                    output.curvature[g, row - start + t] = D[g, t]
            if here > 0:
                for t in range(tile):
                    for j in range(d):
                        copied[t, j] = A[row + t, j]
                for g in range(here):
                    add_gram(copied, tile, D, g, grams)
                entered += tile
            elif rule != NO_ROW:
                for t in range(tile):
                    lever[t] *= abs(D[0, t])
                    scalars[0, LEVERAGE] += lever[t]
                    factor = inclusion(rule, rate, leverage_rate, lever[t], key, row + t)
                    if factor == 0.0:
                        continue
                    entered += 1
                    for g in range(G):
                        side = 1 if D[g, t] < 0.0 else 0
                        scale = math.sqrt(abs(D[g, t]) * factor)
                        place = filled[g, side]
                        filled[g, side] = place + 1
                        for j in range(d):
                            buffer[g, side, place, j] = scale * A[row + t, j]
            row += tile
        for k in range(K):
            for which in range(N_VECTORS):
                for j in range(d):
                    output.vectors[k, which, j] += sums[k, j // LANES, which * LANES + j % LANES]
        for g in range(here):
            for i in range(d):
                for j in range(i, d):
                    output.gram[g, i, j] += grams[g, i, j]
        close_lanes(lanes, scalars)
        return row, entered, bad

    return dense_rows


dense_rows = _compiled(SOURCES)
