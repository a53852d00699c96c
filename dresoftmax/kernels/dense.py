"""The fused loops: rows of one block, at K points → sums over those rows.

A tile of rows is brought into cache, and everything that one read returns is
computed from it there: z = Ax, the pointwise functions (`pointwise`), the weighted column
sums Aᵀ(·), and the rows that enter the sketched Hessian (`row_sampling`).

There is a kernel for dense rows and one for CSR.  They are compiled by Numba on
first use and cached on disk.  The cache looks at this file alone, which is why
it holds the digests of those that are compiled into it.  No algebra of the
objective and no Python objects come in here.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from dresoftmax.kernels.pointwise import LEVER, close_lanes, first_bad, open_lanes, pointwise
from dresoftmax.kernels.row_sampling import (
    HASHED,
    NO_ROW,
    SAMPLED,
    bucket,
    inclusion,
    open_panel,
)
from dresoftmax.kernels.simd import LANES, add_four, splat, store, wide
from dresoftmax.kernels.tile_ops import (
    FASTMATH,
    N_VECTORS,
    add_gram,
    add_rows,
    eight,
    first_products,
    products,
)

__all__ = ["csr_rows", "dense_rows"]

# Digests of the files that are compiled into this one: where they change, this file
# does, and with it the cache.
DIGESTS = {
    "pointwise": "be243d46308dff90912daa246e93e553ab60e7a57c9db1928ec3d27242e933f4",
    "row_sampling": "0260c61a928843c3c9248324c3258dce97f82090622006cc9b8b9d4523fa166a",
    "simd": "6ef76b1d54a841870b43299e088cdae3dfb5fc0c74b44dae1c2d02a3b937be8f",
    "tile_ops": "73ebfc003c102e037ad799b1272938d332a76dad7f7a622cdda79bdc7a1157e0",
}

# Rows that are brought into cache together, and bytes of theirs that are enough.
TILE, TILE_BYTES = 64, 1 << 14

_jit = numba.njit(nogil=True, cache=True, fastmath=FASTMATH)


@_jit
def _aligned(size):
    """Return zeros that start with a cache line, so that no vector straddles two."""
    slack = np.zeros(size + LANES)
    start = -slack.ctypes.data % (LANES * slack.itemsize) // slack.itemsize
    return slack[start : start + size]


@_jit
def dense_rows(
    A, b, w2, weight, start, stop, points, targets, log_alpha, kappa,
    penalty, family, own, evaluate,
    rule, rate, leverage_rate, probes, key, scalars, vectors, buffer, filled, gram,
):  # fmt: skip
    """Add rows start, start+1, … of a dense block until `stop` or a full buffer.

    Parameters
    ----------
    A, b, w2, weight : arrays
        The block (see `blocks.Block`).
    points : ndarray of shape (K, d)
    targets : ndarray of shape (K,)
        Which line of b each point is compared with.
    log_alpha, kappa, penalty : ndarray of shape (K,)
        log α₀, κ₀ and ω of each point.
    family : (float, float, float)
        rising, falling and linear, see `units.Exponentials`.
    own, evaluate : bool, function
        Whether the unit is `evaluate`, see `unit_compiler`, in place of one of the family.
    rule, rate, leverage_rate, probes, key
        How rows enter the Hessian: a constant of `row_sampling`; for SAMPLED
        π = min(1, rate + leverage_rate·τ), for HASHED buckets per row; probes of
        shape (s, d) whose products with a row estimate ‖aᵀR‖²; the key of the
        variates.
    scalars : ndarray of shape (K, N_SCALARS)
    vectors : ndarray of shape (K, N_VECTORS, d)
    buffer : ndarray of shape (G, 2, capacity, d)
        Receives √(|D|/π)·a of the rows that enter, by the sign of D, for each
        of G = K points, or K + 1 with the metric.
    filled : ndarray of shape (G, 2)
        Rows in each part of the buffer.
    gram : ndarray of shape (G, d, d) or (0, d, d)
        To whose upper triangle EVERY_ROW is added here and now; if empty, it goes
        through the buffer as all else.

    Returns
    -------
    row : int
        First row that was not read.
    entered : int
        Rows that entered the Hessian.
    bad : int
        First row whose z at the first point is not finite, or -1.
    """
    K, d = points.shape
    G, _, capacity, _ = buffer.shape
    here = gram.shape[0]
    stop = open_panel(rule, rate, start, stop, buffer, filled)
    buckets = filled[0, 0] if rule == HASHED else 0
    rows_per_tile = min(TILE, max(LANES, TILE_BYTES // (d * A.itemsize) // LANES * LANES))
    padded = -(-d // LANES) * LANES
    x = np.zeros((K, padded))
    x[:, :d] = points
    # Leverages are estimates: the precision in which A is stored will do.
    p = np.zeros((probes.shape[0], padded), A.dtype)
    p[:, :d] = probes
    z = np.empty((K, TILE))
    coef = np.empty((K, TILE // LANES, N_VECTORS * LANES))
    D = np.empty((max(G, K, here), TILE))
    values = np.empty((3, K, TILE if own else 0))
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
        if G > 0 and rule != HASHED:
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
        if own:
            evaluate(z, -(-tile // LANES) * LANES, values)
        finite = pointwise(
            z, row, tile, b, w2, weight, targets, log_alpha, kappa, penalty, family, own, values,
            lanes, coef, D,
        )  # fmt: skip
        if not finite and bad < 0:
            bad = first_bad(z[0], row, tile)
        add_rows(A, row, tile, coef, weighted, sums)
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
                scalars[0, LEVER] += lever[t]
                factor = inclusion(rule, rate, leverage_rate, lever[t], key, row + t)
                if factor == 0.0:
                    continue
                entered += 1
                for g in range(G):
                    side = 1 if D[g, t] < 0.0 else 0
                    scale = math.sqrt(abs(D[g, t]) * factor)
                    if rule == HASHED:
                        place, sign = bucket(key, row + t, buckets)
                        for j in range(d):
                            buffer[g, side, place, j] += sign * scale * A[row + t, j]
                    else:
                        place = filled[g, side]
                        filled[g, side] = place + 1
                        for j in range(d):
                            buffer[g, side, place, j] = scale * A[row + t, j]
        row += tile
    for k in range(K):
        for which in range(N_VECTORS):
            for j in range(d):
                vectors[k, which, j] += sums[k, j // LANES, which * LANES + j % LANES]
    for g in range(here):
        for i in range(d):
            for j in range(i, d):
                gram[g, i, j] += grams[g, i, j]
    close_lanes(lanes, scalars)
    return row, entered, bad


# Reassociated, sums would be vectorised, and gathers are slower than single loads.
@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _sparse_product(data, indices, low, high, x, k):
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


@_jit
def csr_rows(
    data, indices, indptr, b, w2, weight, start, stop, points, targets, log_alpha, kappa,
    penalty, family, own, evaluate,
    rule, rate, leverage_rate, probes, key, scalars, vectors, buffer, filled, gram,
):  # fmt: skip
    """Add rows of a CSR block; the parameters are those of `dense_rows`.

    Places of non-zeros are unsigned, since negative indices would need a look at each.
    Rows that enter the Hessian are added to the upper triangle of `gram` as
    sparse outer products; only HASHED goes through the buffer.
    """
    K, d = points.shape
    G = gram.shape[0]
    stop = open_panel(rule, rate, start, stop, buffer, filled)
    buckets = filled[0, 0] if rule == HASHED else 0
    # Column by column, so that a non-zero finds all that it needs in one place.
    sums = _aligned(d * K * N_VECTORS).reshape(d, K, N_VECTORS)
    factors = np.empty(N_VECTORS)
    z = np.empty((K, TILE))
    coef = np.empty((K, TILE // LANES, N_VECTORS * LANES))
    D = np.empty((max(G, K), TILE))
    values = np.empty((3, K, TILE if own else 0))
    lanes = open_lanes(scalars)
    entered = 0
    bad = -1
    for row in range(start, stop, TILE):
        tile = min(TILE, stop - row)
        for t in range(tile):
            low, high = np.uintp(indptr[row + t]), np.uintp(indptr[row + t + 1])
            for k in range(K):
                z[k, t] = _sparse_product(data, indices, low, high, points, k)
        for k in range(K):
            z[k, tile:] = z[k, tile - 1]
        if own:
            evaluate(z, -(-tile // LANES) * LANES, values)
        finite = pointwise(
            z, row, tile, b, w2, weight, targets, log_alpha, kappa, penalty, family, own, values,
            lanes, coef, D,
        )  # fmt: skip
        if not finite and bad < 0:
            bad = first_bad(z[0], row, tile)
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
                y = _sparse_product(data, indices, low, high, probes, s)
                lever += y * y
            lever *= abs(D[0, t])
            scalars[0, LEVER] += lever
            factor = inclusion(rule, rate, leverage_rate, lever, key, row + t)
            if factor == 0.0:
                continue
            entered += 1
            for g in range(G):
                if rule == HASHED:
                    place, sign = bucket(key, row + t, buckets)
                    side = 1 if D[g, t] < 0.0 else 0
                    scale = sign * math.sqrt(abs(D[g, t]))
                    for at in range(low, high):
                        buffer[g, side, place, indices[at]] += scale * data[at]
                else:
                    for at in range(low, high):
                        value = D[g, t] * factor * data[at]
                        for other in range(at, high):
                            gram[g, indices[at], indices[other]] += value * data[other]
    for k in range(K):
        for which in range(N_VECTORS):
            for j in range(d):
                vectors[k, which, j] += sums[j, k, which]
    close_lanes(lanes, scalars)
    return stop, entered, bad
