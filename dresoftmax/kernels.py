"""The fused loops: rows of one block, at K points → sums over those rows.

A few rows at a time are brought into cache, and everything that one read
returns is computed from them there: z = Ax, the pointwise functions, the
weighted column sums Aᵀ(·), and the rows that enter the sketched Hessian.  With
the references log α₀ and κ₀ of each point and e' = exp(z)/α₀ the loops compute

    u' = e' + ℓz/α₀     v' = e' + ℓ/α₀     c' = u' − b     D = v'² + e'(c' − κ₀) + w²

Row i enters the Hessian with probability πᵢ and weight 1/πᵢ; its uniform
variate is a function of (key, i) alone, so that neither the order of the work
nor its division among workers changes which rows enter.

Two kernels share the pointwise part, one for dense rows and one for CSR.  They
are compiled by Numba on first use and cached on disk.  No algebra of the
objective and no Python objects come in here.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["csr_rows", "dense_rows", "uniforms"]

# How rows enter the Hessian.
NO_ROW, EVERY_ROW, LEVERAGE, UNIFORM, HASHED = range(5)

# Columns of the per-point scalars.
S, CC, CB, WZZ, ZMAX, LEVER, N_SCALARS = range(7)
# Rows of the per-point column sums.
V, VC, VB, WZ, N_VECTORS = range(5)

TILE = 32

# Reassociation lets sums be vectorised.  NaN and infinity keep their meaning:
# an overflowing trial is recognised by them.
_jit = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})


@_jit
def _uniform(key: np.uint64, i: int) -> float:
    """Return the i-th variate in [0, 1) of stream `key` (SplitMix64)."""
    h = key + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h = h ^ (h >> np.uint64(31))
    return float(h >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@_jit
def uniforms(key: np.uint64, n: int) -> np.ndarray:
    """Return the first `n` variates of stream `key`."""
    out = np.empty(n)
    for i in range(n):
        out[i] = _uniform(key, i)
    return out


@_jit
def _pointwise(z, b, w2, weight, log_alpha, kappa, linear, scalars, coef, D):
    """Turn z of one row into its coefficients at every point; add the scalars.

    coef[k] receives the factors of the row in the column sums, D[k] its factor
    in the Hessian.  A last entry of D beyond the points is the row's factor in
    the metric AᵀA.
    """
    for k in range(z.shape[0]):
        # Without a linear part α may be so small that 1/α overflows.
        unit = linear * math.exp(-log_alpha[k]) if linear != 0.0 else 0.0
        e = math.exp(z[k] - log_alpha[k])
        v = e + unit
        u = e + unit * z[k]
        c = u - b
        scalars[k, S] += weight * u
        scalars[k, CC] += weight * c * c
        scalars[k, CB] += weight * c * b
        scalars[k, WZZ] += weight * w2 * z[k] * z[k]
        scalars[k, ZMAX] = max(scalars[k, ZMAX], z[k])
        coef[k, V] = weight * v
        coef[k, VC] = weight * v * c
        coef[k, VB] = weight * v * b
        coef[k, WZ] = weight * w2 * z[k]
        D[k] = weight * (v * v + e * (c - kappa[k]) + w2)
    for k in range(z.shape[0], D.shape[0]):
        D[k] = weight


@_jit
def _inclusion(rule, rate, lever, key, i):
    """Return 1/π of row `i` where it enters the Hessian, else 0."""
    if rule in (EVERY_ROW, HASHED):
        return 1.0
    if rule == NO_ROW:
        return 0.0
    pi = min(1.0, rate * lever) if rule == LEVERAGE else min(1.0, rate)
    return 1.0 / pi if _uniform(key, i) < pi else 0.0


@_jit
def _bucket(key, i, buckets):
    """Return the bucket of row `i` and its random sign, for HASHED."""
    place = 2.0 * buckets * _uniform(key, i)
    bucket = int(place) // 2
    return min(bucket, buckets - 1), 1.0 if int(place) % 2 == 0 else -1.0


@_jit
def _open_panel(rule, rate, start, stop, buffer, filled):
    """Return where this call has to stop, its buckets zeroed, for HASHED."""
    if rule != HASHED:
        return stop
    capacity = buffer.shape[2]
    stop = min(stop, start + max(1, int(capacity / rate)))
    buckets = min(capacity, max(1, round((stop - start) * rate)))
    buffer[:, :, :buckets] = 0.0
    filled[:] = buckets
    return stop


@_jit
def _add_rows(A, row, tile, coef, out):
    """Add coef[t]·A[row + t] for all rows of a tile, four at a time."""
    t = 0
    while t + 4 <= tile:
        c0, c1, c2, c3 = coef[t], coef[t + 1], coef[t + 2], coef[t + 3]
        for j in range(out.size):
            out[j] += (
                c0 * A[row + t, j] + c1 * A[row + t + 1, j]
                + c2 * A[row + t + 2, j] + c3 * A[row + t + 3, j]
            )  # fmt: skip
        t += 4
    while t < tile:
        for j in range(out.size):
            out[j] += coef[t] * A[row + t, j]
        t += 1


@_jit
def dense_rows(
    A, b, w2, weight, start, stop, points, log_alpha, kappa, linear,
    rule, rate, probes, key, scalars, vectors, buffer, filled,
):  # fmt: skip
    """Add rows start, start+1, … of a dense block until `stop` or a full buffer.

    Parameters
    ----------
    A, b, w2, weight : arrays
        The block (see `blocks.Block`).
    points : ndarray of shape (K, d)
    rule, rate, probes, key
        How rows enter the Hessian: a constant of this module; m/Στ for
        LEVERAGE, m/n for UNIFORM and HASHED; probes of shape (s, d) whose
        products with a row estimate ‖aᵀR‖²; the key of the variates.
    scalars : ndarray of shape (K, N_SCALARS)
    vectors : ndarray of shape (K, N_VECTORS, d)
    buffer : ndarray of shape (G, 2, capacity, d)
        Receives √(|D|/π)·a of the rows that enter, by the sign of D, for each
        of G = K points, or K + 1 with the metric.
    filled : ndarray of shape (G, 2)
        Rows in each part of the buffer.

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
    stop = _open_panel(rule, rate, start, stop, buffer, filled)
    buckets = filled[0, 0] if rule == HASHED else 0
    z = np.empty((TILE, K))
    coef = np.empty((TILE, K, N_VECTORS))
    D = np.empty((TILE, G))
    n_vectors = N_VECTORS if w2.size > 1 or w2[0] > 0.0 else WZ
    entered = 0
    bad = -1
    row = start
    while row < stop:
        tile = min(TILE, stop - row)
        if rule != NO_ROW and rule != HASHED:
            tile = min(tile, capacity - filled.max())
            if tile == 0:
                break
        for t in range(tile):
            for k in range(K):
                total = 0.0
                for j in range(d):
                    total += A[row + t, j] * points[k, j]
                z[t, k] = total
            if bad < 0 and not math.isfinite(z[t, 0]):
                bad = row + t
            i = row + t
            _pointwise(
                z[t], b[i], w2[i if w2.size > 1 else 0], weight[i if weight.size > 1 else 0],
                log_alpha, kappa, linear, scalars, coef[t], D[t],
            )  # fmt: skip
        for k in range(K):
            for which in range(n_vectors):
                _add_rows(A, row, tile, coef[:, k, which], vectors[k, which])
        if rule != NO_ROW:
            for t in range(tile):
                lever = 0.0
                for s in range(probes.shape[0]):
                    total = 0.0
                    for j in range(d):
                        total += A[row + t, j] * probes[s, j]
                    lever += total * total
                lever *= abs(D[t, 0])
                scalars[0, LEVER] += lever
                factor = _inclusion(rule, rate, lever, key, row + t)
                if factor == 0.0:
                    continue
                entered += 1
                for g in range(G):
                    side = 1 if D[t, g] < 0.0 else 0
                    scale = math.sqrt(abs(D[t, g]) * factor)
                    if rule == HASHED:
                        place, sign = _bucket(key, row + t, buckets)
                        for j in range(d):
                            buffer[g, side, place, j] += sign * scale * A[row + t, j]
                    else:
                        place = filled[g, side]
                        filled[g, side] = place + 1
                        for j in range(d):
                            buffer[g, side, place, j] = scale * A[row + t, j]
        row += tile
    return row, entered, bad


@_jit
def csr_rows(
    data, indices, indptr, b, w2, weight, start, stop, points, log_alpha, kappa, linear,
    rule, rate, probes, key, scalars, vectors, buffer, filled, gram,
):  # fmt: skip
    """Add rows of a CSR block; the parameters are those of `dense_rows`.

    Rows that enter the Hessian are added to the upper triangle of `gram` as
    sparse outer products; only HASHED goes through the buffer.
    """
    K, d = points.shape
    G = gram.shape[0]
    stop = _open_panel(rule, rate, start, stop, buffer, filled)
    buckets = filled[0, 0] if rule == HASHED else 0
    # Column by column, so that a non-zero finds all that it needs in one place.
    x = points.T.copy()
    p = probes.T.copy()
    sums = np.zeros((d, K, N_VECTORS))
    z = np.empty(K)
    coef = np.empty((K, N_VECTORS))
    D = np.empty(G)
    n_vectors = N_VECTORS if w2.size > 1 or w2[0] > 0.0 else WZ
    entered = 0
    bad = -1
    for i in range(start, stop):
        first, last = indptr[i], indptr[i + 1]
        z[:] = 0.0
        for at in range(first, last):
            for k in range(K):
                z[k] += data[at] * x[indices[at], k]
        if bad < 0 and not math.isfinite(z[0]):
            bad = i
        _pointwise(
            z, b[i], w2[i if w2.size > 1 else 0], weight[i if weight.size > 1 else 0],
            log_alpha, kappa, linear, scalars, coef, D,
        )  # fmt: skip
        for at in range(first, last):
            for k in range(K):
                for which in range(n_vectors):
                    sums[indices[at], k, which] += data[at] * coef[k, which]
        if rule == NO_ROW:
            continue
        lever = 0.0
        for s in range(probes.shape[0]):
            total = 0.0
            for at in range(first, last):
                total += data[at] * p[indices[at], s]
            lever += total * total
        lever *= abs(D[0])
        scalars[0, LEVER] += lever
        factor = _inclusion(rule, rate, lever, key, i)
        if factor == 0.0:
            continue
        entered += 1
        for g in range(G):
            if rule == HASHED:
                place, sign = _bucket(key, i, buckets)
                side = 1 if D[g] < 0.0 else 0
                scale = sign * math.sqrt(abs(D[g]))
                for at in range(first, last):
                    buffer[g, side, place, indices[at]] += scale * data[at]
            else:
                for at in range(first, last):
                    value = D[g] * factor * data[at]
                    for other in range(at, last):
                        gram[g, indices[at], indices[other]] += value * data[other]
    for k in range(K):
        for which in range(n_vectors):
            for j in range(d):
                vectors[k, which, j] += sums[j, k, which]
    return stop, entered, bad
