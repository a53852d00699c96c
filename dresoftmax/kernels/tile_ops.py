"""Eight rows at a time: the parts of a tile's work that are compiled into the kernels.

A tile is a few rows that lie in cache together.  These loops keep eight of them,
or the sums that eight of them add to, in vector registers.  Columns of points and
of sums are padded to a multiple of eight; rows past the last of a tile are the
last again, and callers give them no weight.
"""

from __future__ import annotations

import numba

from dresoftmax.kernels.simd import (
    LANES,
    first,
    larger,
    load,
    scaled,
    smaller,
    splat,
    store,
    totals,
)
from dresoftmax.model.layout import LOSS_VECTORS, PENALTY_VECTOR, SLOPE

__all__ = [
    "FASTMATH",
    "OPTIONS",
    "TILE",
    "add_gram",
    "add_rows",
    "add_to",
    "column",
    "eight",
    "exp",
    "first_products",
    "inline",
    "products",
]

FIRST, SECOND = LOSS_VECTORS
# Rows that are brought into cache together.
TILE = 64

# Reassociation lets sums be vectorised.  NaN and infinity keep their meaning:
# an overflowing trial is recognised by them.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}
# Numba would count references to arrays between the loops, and spill registers for it.
OPTIONS = {"nogil": True, "fastmath": FASTMATH, "_nrt": False}
inline = numba.njit(forceinline=True, **OPTIONS)

LOG2_E = 1.4426950408889634
# ln 2 in two parts, the first with zeros at its end, so that n·LN2_HIGH is exact.
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding it rounds to an integer, which is then found in the last bits.
ROUND = 6755399441055744.0


@inline
def exp(x):
    """Return exp(x).

    exp(x) = 2ᵏ·exp(r) with |r| ≤ ½ ln 2, by Taylor's polynomial of degree 13: within
    2 units in the last place, and in vector registers; calls of the
    mathematical library would cost more than the rest of a read.  Arguments
    beyond ±708 count as ±708; NaN and infinities become NaN.
    """
    bounded = smaller(larger(x, splat(-708.0)), splat(708.0))
    power = bounded * LOG2_E + ROUND
    k = power - ROUND
    r = (bounded - k * LN2_HIGH) - k * LN2_LOW
    # Pairs of terms, so that fewer operations wait for each other.
    r2 = r * r
    r4 = r2 * r2
    low = (r + 1.0) + (r * (1.0 / 6.0) + 0.5) * r2
    middle = (r * (1.0 / 120.0) + 1.0 / 24.0) + (r * (1.0 / 5040.0) + 1.0 / 720.0) * r2
    high = (r * (1.0 / 362880.0) + 1.0 / 40320.0) + (r * (1.0 / 39916800.0) + 1.0 / 3628800.0) * r2
    last = r * (1.0 / 6227020800.0) + 1.0 / 479001600.0
    p = ((last * r4 + high) * r4 + middle) * r4 + low
    return scaled(p, power) + 0.0 * x


@inline
def column(values, row, count):
    """Return the values of eight rows, zero from `count` on; one value may stand for all."""
    return load(values, row, count) if values.size > 1 else first(splat(values[0]), count)


@inline
def add_to(array, index, vector):
    """Add a vector to eight entries of an array."""
    store(array, index, load(array, index, LANES) + vector)


@inline
def eight(first, last):
    """Return the numbers of eight rows; those past the last are the last again."""
    return (
        first, min(first + 1, last), min(first + 2, last), min(first + 3, last),
        min(first + 4, last), min(first + 5, last), min(first + 6, last), min(first + 7, last),
    )  # fmt: skip


@inline
def _columns(A, rows, j, count):
    """Return columns j, j + 1, … of eight rows."""
    return (
        load(A, (rows[0], j), count), load(A, (rows[1], j), count),
        load(A, (rows[2], j), count), load(A, (rows[3], j), count),
        load(A, (rows[4], j), count), load(A, (rows[5], j), count),
        load(A, (rows[6], j), count), load(A, (rows[7], j), count),
    )  # fmt: skip


@inline
def _add_products(A, rows, j, count, x, s):
    a = _columns(A, rows, j, count)
    return (
        s[0] + a[0] * x, s[1] + a[1] * x, s[2] + a[2] * x, s[3] + a[3] * x,
        s[4] + a[4] * x, s[5] + a[5] * x, s[6] + a[6] * x, s[7] + a[7] * x,
    )  # fmt: skip


@inline
def products(A, rows, x, k):
    """Return the products of eight rows with x[k], whose columns are padded."""
    zero = splat(x.dtype.type(0.0))
    sums = (zero, zero, zero, zero, zero, zero, zero, zero)
    d = A.shape[1]
    whole = d // LANES * LANES
    for j in range(0, whole, LANES):
        sums = _add_products(A, rows, j, LANES, load(x, (k, j), LANES), sums)
    if whole < d:
        sums = _add_products(A, rows, whole, d - whole, load(x, (k, whole), LANES), sums)
    return totals(sums)


@inline
def _product(A, row, x):
    """Return the product of a row with x[0], its parts still to be added up."""
    s, other = splat(0.0), splat(0.0)
    d = A.shape[1]
    paired = d // (2 * LANES) * (2 * LANES)
    for j in range(0, paired, 2 * LANES):
        s = s + load(A, (row, j), LANES) * load(x, (0, j), LANES)
        other = other + load(A, (row, j + LANES), LANES) * load(x, (0, j + LANES), LANES)
    for j in range(paired, d, LANES):
        s = s + load(A, (row, j), d - j) * load(x, (0, j), LANES)
    return s + other


@inline
def first_products(A, rows, x):
    """Return the products of eight rows with x[0], one row after the other.

    Memory is at its fastest if it is read in order; after this the rows are in
    cache, and the order does not matter.
    """
    return totals(
        (
            _product(A, rows[0], x), _product(A, rows[1], x),
            _product(A, rows[2], x), _product(A, rows[3], x),
            _product(A, rows[4], x), _product(A, rows[5], x),
            _product(A, rows[6], x), _product(A, rows[7], x),
        )
    )  # fmt: skip


@inline
def _add_sum(a, coef, k, t, which, sums, j):
    c, at = coef[k, t // LANES], which * LANES
    s = load(sums, (k, j // LANES, at), LANES)
    s = s + a[0] * c[at] + a[1] * c[at + 1] + a[2] * c[at + 2] + a[3] * c[at + 3]
    s = s + a[4] * c[at + 4] + a[5] * c[at + 5] + a[6] * c[at + 6] + a[7] * c[at + 7]
    store(sums, (k, j // LANES, at), s)


@inline
def _add_columns(A, rows, j, count, coef, t, weighted, sums):
    a = _columns(A, rows, j, count)
    for k in range(coef.shape[0]):
        _add_sum(a, coef, k, t, SLOPE, sums, j)
        _add_sum(a, coef, k, t, FIRST, sums, j)
        _add_sum(a, coef, k, t, SECOND, sums, j)
        if weighted:
            _add_sum(a, coef, k, t, PENALTY_VECTOR, sums, j)


@inline
def add_rows(A, row, tile, coef, weighted, sums):
    """Add the rows of a tile, times their coefficients, to the column sums.

    sums[k, j // 8] holds eight columns of the first, second, … sum at point k.
    """
    d = A.shape[1]
    whole = d // LANES * LANES
    for t in range(0, tile, LANES):
        rows = eight(row + t, row + tile - 1)
        for j in range(0, whole, LANES):
            _add_columns(A, rows, j, LANES, coef, t, weighted, sums)
        if whole < d:
            _add_columns(A, rows, whole, d - whole, coef, t, weighted, sums)


@inline
def _eight_lines(gram, g, i, j):
    """Return eight lines of a Gram, eight columns of each."""
    return (
        load(gram, (g, i, j), LANES), load(gram, (g, i + 1, j), LANES),
        load(gram, (g, i + 2, j), LANES), load(gram, (g, i + 3, j), LANES),
        load(gram, (g, i + 4, j), LANES), load(gram, (g, i + 5, j), LANES),
        load(gram, (g, i + 6, j), LANES), load(gram, (g, i + 7, j), LANES),
    )  # fmt: skip


@inline
def add_gram(rows, tile, D, g, gram):
    """Add Aᵀdiag(D)A of the first rows to blocks of gram[g] on and above the diagonal.

    The rows and gram are float64, and padded to whole blocks of eight by eight columns,
    each of which stays in registers while the rows are added.
    """
    for i in range(0, rows.shape[1], LANES):
        for j in range(i, rows.shape[1], LANES):
            s = _eight_lines(gram, g, i, j)
            for t in range(tile):
                y = load(rows, (t, j), LANES) * D[g, t]
                s = (
                    s[0] + y * rows[t, i], s[1] + y * rows[t, i + 1],
                    s[2] + y * rows[t, i + 2], s[3] + y * rows[t, i + 3],
                    s[4] + y * rows[t, i + 4], s[5] + y * rows[t, i + 5],
                    s[6] + y * rows[t, i + 6], s[7] + y * rows[t, i + 7],
                )  # fmt: skip
            store(gram, (g, i, j), s[0])
            store(gram, (g, i + 1, j), s[1])
            store(gram, (g, i + 2, j), s[2])
            store(gram, (g, i + 3, j), s[3])
            store(gram, (g, i + 4, j), s[4])
            store(gram, (g, i + 5, j), s[5])
            store(gram, (g, i + 6, j), s[6])
            store(gram, (g, i + 7, j), s[7])
