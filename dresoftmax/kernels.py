"""The fused loops: rows of one block, at K points → sums over those rows.

A tile of rows is brought into cache, and everything that one read returns is
computed from it there: z = Ax, the pointwise functions, the weighted column sums
Aᵀ(·), and the rows that enter the sketched Hessian.  With the references log α₀
and κ₀ of a point and e' = exp(z)/α₀,

    u' = e' + ℓz/α₀     v' = e' + ℓ/α₀     c' = u' − b     D = v'² + e'(c' − κ₀) + w²

Row i enters the Hessian with probability πᵢ and weight 1/πᵢ; its variate is a
function of (key, i), so that neither the order of the work nor its division
among workers changes the sketch.

There is a kernel for dense rows and one for CSR.  They are compiled by Numba on
first use and cached on disk under the contents of this file, which is why all
compiled code is in it.  No algebra of the objective and no Python objects come
in here.
"""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["csr_rows", "dense_rows", "uniforms"]

# How rows enter the Hessian.
NO_ROW, EVERY_ROW, SAMPLED, HASHED = range(4)
# Columns of the per-point scalars.
S, CC, CB, WZZ, ZMAX, LEVER, N_SCALARS = range(7)
# Rows of the per-point column sums.
V, VC, VB, WZ, N_VECTORS = range(5)

# Rows that are brought into cache together.
TILE = 64

# Reassociation lets sums be vectorised.  NaN and infinity keep their meaning:
# an overflowing trial is recognised by them.
_jit = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
# Where the order of operations is what makes the result exact.
_jit_ordered = numba.njit(nogil=True, cache=True, fastmath={"contract"})

LOG2_E = 1.4426950408889634
# ln 2 in two parts, the first with zeros at its end, so that n·LN2_HIGH is exact.
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding it rounds to an integer, which is then found in the last bits.
ROUND = 6755399441055744.0


@_jit_ordered
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
def _pointwise(
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


@_jit
def _inclusion(rule, rate, leverage_rate, lever, key, i):
    """Return 1/π of row `i` where it enters the Hessian, else 0."""
    if rule in (EVERY_ROW, HASHED):
        return 1.0
    if rule == NO_ROW:
        return 0.0
    pi = min(1.0, rate + leverage_rate * lever)
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
def _products(A, row, tile, x, z):
    """Store the products of a tile of rows with x in z, four rows at a time."""
    t = 0
    while t + 4 <= tile:
        z0 = z1 = z2 = z3 = 0.0
        for j in range(x.size):
            z0 += A[row + t, j] * x[j]
            z1 += A[row + t + 1, j] * x[j]
            z2 += A[row + t + 2, j] * x[j]
            z3 += A[row + t + 3, j] * x[j]
        z[t], z[t + 1], z[t + 2], z[t + 3] = z0, z1, z2, z3
        t += 4
    while t < tile:
        z0 = 0.0
        for j in range(x.size):
            z0 += A[row + t, j] * x[j]
        z[t] = z0
        t += 1


@_jit
def _add_rows(A, row, tile, coef, v, vc, vb):
    """Add the rows of a tile, times their coefficients, to three vectors."""
    t = 0
    while t + 4 <= tile:
        p0, p1, p2, p3 = coef[V, t], coef[V, t + 1], coef[V, t + 2], coef[V, t + 3]
        q0, q1, q2, q3 = coef[VC, t], coef[VC, t + 1], coef[VC, t + 2], coef[VC, t + 3]
        r0, r1, r2, r3 = coef[VB, t], coef[VB, t + 1], coef[VB, t + 2], coef[VB, t + 3]
        for j in range(v.size):
            a0, a1, a2, a3 = A[row + t, j], A[row + t + 1, j], A[row + t + 2, j], A[row + t + 3, j]
            v[j] += p0 * a0 + p1 * a1 + p2 * a2 + p3 * a3
            vc[j] += q0 * a0 + q1 * a1 + q2 * a2 + q3 * a3
            vb[j] += r0 * a0 + r1 * a1 + r2 * a2 + r3 * a3
        t += 4
    while t < tile:
        for j in range(v.size):
            v[j] += coef[V, t] * A[row + t, j]
            vc[j] += coef[VC, t] * A[row + t, j]
            vb[j] += coef[VB, t] * A[row + t, j]
        t += 1


@_jit
def _first_bad(z, row, tile):
    """Return the first row of a tile with z not finite, or -1."""
    for t in range(tile):
        if not math.isfinite(z[t]):
            return row + t
    return -1


@_jit
def dense_rows(
    A, b, w2, weight, start, stop, points, log_alpha, kappa, linear,
    rule, rate, leverage_rate, probes, key, scalars, vectors, buffer, filled,
):  # fmt: skip
    """Add rows start, start+1, … of a dense block until `stop` or a full buffer.

    Parameters
    ----------
    A, b, w2, weight : arrays
        The block (see `blocks.Block`).
    points : ndarray of shape (K, d)
    rule, rate, leverage_rate, probes, key
        How rows enter the Hessian: a constant of this module; for SAMPLED
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
    z = np.empty((K, TILE))
    coef = np.empty((K, N_VECTORS, TILE))
    D = np.empty((max(G, K), TILE))
    lever = np.zeros(TILE)
    scratch = np.empty((4, TILE))
    weighted = w2.size > 1 or w2[0] > 0.0
    entered = 0
    bad = -1
    row = start
    while row < stop:
        tile = min(TILE, stop - row)
        if rule != NO_ROW and rule != HASHED:
            tile = min(tile, capacity - filled.max())
            if tile == 0:
                break
        for k in range(K):
            _products(A, row, tile, points[k], z[k])
        if bad < 0:
            bad = _first_bad(z[0], row, tile)
        _pointwise(
            z, row, tile, b, w2, weight, log_alpha, kappa, linear, scalars, coef, D, scratch
        )  # fmt: skip
        for k in range(K):
            _add_rows(A, row, tile, coef[k], vectors[k, V], vectors[k, VC], vectors[k, VB])
            if weighted:
                for t in range(tile):
                    for j in range(d):
                        vectors[k, WZ, j] += coef[k, WZ, t] * A[row + t, j]
        if rule != NO_ROW:
            lever[:] = 0.0
            for s in range(probes.shape[0]):
                _products(A, row, tile, probes[s], scratch[0])
                for t in range(tile):
                    lever[t] += scratch[0, t] ** 2
            for t in range(tile):
                lever[t] *= abs(D[0, t])
                scalars[0, LEVER] += lever[t]
                factor = _inclusion(rule, rate, leverage_rate, lever[t], key, row + t)
                if factor == 0.0:
                    continue
                entered += 1
                for g in range(G):
                    side = 1 if D[g, t] < 0.0 else 0
                    scale = math.sqrt(abs(D[g, t]) * factor)
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
    rule, rate, leverage_rate, probes, key, scalars, vectors, buffer, filled, gram,
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
    z = np.empty((K, TILE))
    coef = np.empty((K, N_VECTORS, TILE))
    D = np.empty((max(G, K), TILE))
    scratch = np.empty((4, TILE))
    n_vectors = N_VECTORS if w2.size > 1 or w2[0] > 0.0 else WZ
    entered = 0
    bad = -1
    for row in range(start, stop, TILE):
        tile = min(TILE, stop - row)
        for t in range(tile):
            for k in range(K):
                z[k, t] = 0.0
            for at in range(indptr[row + t], indptr[row + t + 1]):
                for k in range(K):
                    z[k, t] += data[at] * x[indices[at], k]
        if bad < 0:
            bad = _first_bad(z[0], row, tile)
        _pointwise(
            z, row, tile, b, w2, weight, log_alpha, kappa, linear, scalars, coef, D, scratch
        )  # fmt: skip
        for t in range(tile):
            first, last = indptr[row + t], indptr[row + t + 1]
            for at in range(first, last):
                for k in range(K):
                    for which in range(n_vectors):
                        sums[indices[at], k, which] += data[at] * coef[k, which, t]
            if rule == NO_ROW:
                continue
            lever = 0.0
            for s in range(probes.shape[0]):
                total = 0.0
                for at in range(first, last):
                    total += data[at] * p[indices[at], s]
                lever += total * total
            lever *= abs(D[0, t])
            scalars[0, LEVER] += lever
            factor = _inclusion(rule, rate, leverage_rate, lever, key, row + t)
            if factor == 0.0:
                continue
            entered += 1
            for g in range(G):
                if rule == HASHED:
                    place, sign = _bucket(key, row + t, buckets)
                    side = 1 if D[g, t] < 0.0 else 0
                    scale = sign * math.sqrt(abs(D[g, t]))
                    for at in range(first, last):
                        buffer[g, side, place, indices[at]] += scale * data[at]
                else:
                    for at in range(first, last):
                        value = D[g, t] * factor * data[at]
                        for other in range(at, last):
                            gram[g, indices[at], indices[other]] += value * data[other]
    for k in range(K):
        for which in range(n_vectors):
            for j in range(d):
                vectors[k, which, j] += sums[j, k, which]
    return stop, entered, bad
