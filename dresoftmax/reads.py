"""One read: (blocks, query) → sums over all their rows.

`read_blocks` is the one thing that is ever done to the data, on a worker as in
this process.  It is a pure function of its arguments: it keeps no state, and
a lost result is had again by calling it again.  Threads divide the rows among
themselves; each adds up its own share, and the shares are added in order.

No iteration and no scheduler come in here.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from dresoftmax.blas import one_blas_thread
from dresoftmax.blocks import Block
from dresoftmax.sums import Sums

__all__ = ["Query", "Sketch", "read_blocks"]

# The kernels' names for them: NO_ROW, EVERY_ROW, SAMPLED, SAMPLED, HASHED.
RULES = {"none": 0, "exact": 1, "leverage": 2, "uniform": 2, "countsketch": 3}

# Sets the variates of reads apart from those of the sample.
STREAM = 2
# Below this many numbers of A a second thread costs more than it saves.
NUMBERS_PER_THREAD = 100_000
# The buffer of rows that wait for their Gram product should stay in cache, but a
# product of few rows costs little more than adding it up.
BUFFER_NUMBERS, LEAST_BUFFER_ROWS = 1 << 16, 512
# Rows of a sparse block that are copied at a time.
SPARSE_ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class Sketch:
    """Which rows enter the Hessian, and with what weight.

    Attributes
    ----------
    kind : {"none", "exact", "leverage", "uniform", "countsketch"}
    rate, leverage_rate : float
        Row i enters with probability min(1, rate + leverage_rate·τᵢ); "countsketch"
        has so many buckets per row as `rate` says.
    probes : ndarray of shape (s, d)
        (R·G)ᵀ/√s for Gaussian G, where R Rᵀ ≈ H⁻¹: ‖probes @ a‖² estimates the
        leverage ‖aᵀR‖².
    entropy : tuple of int
        (seed, number of the read); with the block's index it seeds the variates.
    """

    kind: str = "none"
    rate: float = 1.0
    leverage_rate: float = 0.0
    probes: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    entropy: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Query:
    """What one read is to evaluate.

    Attributes
    ----------
    points : ndarray of shape (K, d)
        The points x; everything is evaluated at all of them.
    log_alpha, kappa : ndarray of shape (K,)
        References log α₀ and κ₀ of each point.
    linear : float
        The unit's ℓ.
    sketch : Sketch
        What is to be known of the Hessian.
    metric : bool
        Whether AᵀA is wanted too, from the same rows.
    """

    points: np.ndarray
    log_alpha: np.ndarray
    kappa: np.ndarray
    linear: float
    sketch: Sketch
    metric: bool = False


def read_blocks(query: Query, blocks: Sequence[Block], threads: int) -> Sums:
    """Return the sums of `query` over all rows of `blocks`."""
    sizes = [block.rows for block in blocks]
    d = query.points.shape[1]
    useful = max(1, min(threads, sum(sizes) * d // NUMBERS_PER_THREAD))
    shares = list(_shares(sizes, useful, _panel(query.sketch, d)))
    work = partial(_read_share, query, blocks)
    if useful == 1 and threads > 1:
        return work(shares[0])  # too little for it to matter what BLAS does
    # A read without a Hessian has nothing for BLAS to do.
    limit = nullcontext() if query.sketch.kind == "none" else one_blas_thread
    with limit, ThreadPoolExecutor(useful) as pool:
        return sum(pool.map(work, shares), start=Sums.zeros(query.points, 0))


def _panel(sketch: Sketch, d: int) -> int:
    """Return how many rows have to be read by one thread for the sketch's sake.

    "countsketch" hashes a panel of rows at a time into the buffer.
    """
    return max(1, int(_capacity(d) / sketch.rate)) if sketch.kind == "countsketch" else 1


def _capacity(d: int) -> int:
    """Return the rows that the buffer holds."""
    return max(LEAST_BUFFER_ROWS, BUFFER_NUMBERS // d)


def _shares(sizes: Sequence[int], count: int, panel: int) -> Iterator[list[tuple[int, int, int]]]:
    """Divide the rows of all blocks evenly: lists of (block, start, stop).

    No panel of a block is divided.
    """
    ends = list(accumulate(sizes))
    total = ends[-1] if ends else 0
    cuts = [round(total * i / count) for i in range(count + 1)]
    for low, high in pairwise(cuts):
        share = []
        # From the block that holds row `low`; of it no more than a part may be left.
        for position in range(bisect(ends, low), len(ends)):
            first = ends[position] - sizes[position]
            if first >= high:
                break
            start, stop = (
                sizes[position] if cut >= ends[position] else max(0, cut - first) // panel * panel
                for cut in (low, high)
            )
            if start < stop:
                share.append((position, start, stop))
        yield share


# An overflowing trial is known by its sums; on the way there it is no news.
@np.errstate(all="ignore")
def _read_share(query: Query, blocks: Sequence[Block], share: list[tuple[int, int, int]]) -> Sums:
    # Numba takes half a second to import; whoever only builds a problem need not wait.
    from dresoftmax import kernels

    sketch = query.sketch
    rule = RULES[sketch.kind]
    K, d = query.points.shape
    G = K + query.metric if rule else 0
    sums = Sums.zeros(query.points, G)
    capacity = _capacity(d)
    dense = not share or not blocks[share[0][0]].sparse
    buffered = G if dense or sketch.kind == "countsketch" else 0
    buffer = np.empty((buffered, 2, capacity, d))
    filled = np.zeros((buffered, 2), dtype=np.int64)
    product = np.empty((d, d) if buffered else (0, 0))
    probes = sketch.probes if sketch.kind == "leverage" else np.empty((0, d))

    for position, start, stop in share:
        block = blocks[position]
        A = block.A
        if A.shape[1] != d:  # a lazy array need not keep what it says
            raise ValueError(f"block {block.index} of A has {A.shape[1]} columns, but A has {d}")
        common = (
            query.points, query.log_alpha, query.kappa, query.linear,
            rule, sketch.rate, sketch.leverage_rate, probes, _key(sketch, block.index),
            sums.scalars, sums.vectors, buffer, filled,
        )  # fmt: skip
        row = start
        while row < stop:
            before = row
            head = (block.b, block.w2, block.weight, row, stop)
            if dense:
                row, entered, bad = kernels.dense_rows(A, *head, *common)
            else:
                row, entered, bad = kernels.csr_rows(
                    A.data, A.indices, A.indptr, *head, *common, sums.gram
                )
            sums.sketched += entered
            sums.rows += row - before
            if bad >= 0 and sums.bad is None and not np.isfinite(block.row(bad)).all():
                sums.bad = (block.index, bad)
            if row < stop or sketch.kind == "countsketch":
                _flush(buffer, filled, sums.gram, product)
        b = block.b[start:stop]
        one = block.weight.size == 1
        weight = block.weight if one else block.weight[start:stop]
        # Not by BLAS, which would start threads of its own.
        bb = np.einsum("i,i", b, b)
        sums.bb += float(weight[0] * bb if one else np.einsum("i,i,i", weight, b, b))
        if query.metric and sketch.kind != "exact":
            weight = np.broadcast_to(weight, stop - start)
            sums.squares += _squares(A[start:stop], weight, block.sparse)
    _flush(buffer, filled, sums.gram, product)
    if not buffered:
        for gram in sums.gram:
            gram += np.triu(gram, 1).T
    return sums


def _squares(A: Any, weight: np.ndarray, sparse: bool) -> np.ndarray:
    """Return the diagonal of Aᵀdiag(weight)A, without a temporary of the size of A."""
    if not sparse:
        return np.einsum("i,ij,ij->j", weight, A, A)
    total = np.zeros(A.shape[1])
    for start in range(0, A.shape[0], SPARSE_ROWS):
        rows = slice(start, start + SPARSE_ROWS)
        total += weight[rows] @ A[rows].astype(np.float64).power(2)
    return total


def _flush(buffer: np.ndarray, filled: np.ndarray, gram: np.ndarray, product: np.ndarray) -> None:
    """Add the products of the rows in the buffer to the Grams, and empty it."""
    for g in range(len(filled)):
        for side, add in ((0, np.add), (1, np.subtract)):
            rows = buffer[g, side, : filled[g, side]]
            if len(rows):
                # NumPy recognises RᵀR and calls the symmetric product.
                add(gram[g], np.matmul(rows.T, rows, out=product), out=gram[g])
    filled[:] = 0


def _key(sketch: Sketch, index: int) -> np.uint64:
    """Return the key of a block's variates in this read."""
    if sketch.kind in ("none", "exact"):
        return np.uint64(0)
    entropy = [STREAM, index, *sketch.entropy]
    return np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
