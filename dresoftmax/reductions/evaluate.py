"""One read: (blocks, queries) → sums over all their rows, for each query.

`evaluate_blocks` is the one thing that is ever done to the data, on a worker as in
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
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.blocks.prefetch import map_loaded, split
from dresoftmax.model.evaluation import RowSums
from dresoftmax.reductions.query import Answers, Query, Sketch, join
from dresoftmax.utils.blas_threads import one_blas_thread

__all__ = ["evaluate_blocks"]

# The kernels' names for them: NO_ROW, EVERY_ROW, SAMPLED, SAMPLED, HASHED.
RULES = {"none": 0, "exact": 1, "leverage": 2, "uniform": 2, "countsketch": 3}

# Sets the variates of reads apart from those of the sample.
STREAM = 2
# Below this many numbers of A a second thread costs more than it saves.
NUMBERS_PER_THREAD = 100_000
# The buffer of rows that wait for their Gram product should stay in cache, but a
# product of few rows costs little more than adding it up.
BUFFER_NUMBERS, LEAST_BUFFER_ROWS = 1 << 16, 512
# Up to so many columns an exact Gram is added up in registers, else by BLAS.
FEW_COLUMNS = 104
# Rows of a sparse block that are copied at a time.
SPARSE_ROWS = 1 << 14


def evaluate_blocks(
    queries: Sequence[Query], blocks: Sequence[Block | LazyBlock], threads: int
) -> Answers:
    """Return the sums of each query over all rows of `blocks`."""
    joined = join(queries)

    def read(blocks: Sequence[Block], threads: int) -> Answers:
        return Answers([_read_held(query, blocks, threads) for query, _ in joined])

    held, deferred = split(blocks)
    loaded = map_loaded(lambda block: read([block], 1), deferred, threads)
    sums = sum(loaded, start=read(held, threads)).each
    parts = {
        i: whole.part(points)
        for whole, (_, members) in zip(sums, joined, strict=True)
        for i, points in members
    }
    return Answers([parts[i] for i in range(len(queries))])


def _read_held(query: Query, blocks: Sequence[Block], threads: int) -> RowSums:
    sizes = [block.rows for block in blocks]
    d = query.points.shape[1]
    useful = max(1, min(threads, sum(sizes) * d // NUMBERS_PER_THREAD))
    shares = list(_shares(sizes, useful, _panel(query.sketch, d)))
    work = partial(_read_share, query, blocks)
    # Without a Hessian, or with one of few rows, there is nothing or little for BLAS to do.
    little = query.sketch.kind == "none" or useful == 1 < threads
    with nullcontext() if little else one_blas_thread:
        if useful == 1:
            return work(shares[0])
        with ThreadPoolExecutor(useful) as pool:
            return sum(pool.map(work, shares), start=RowSums.zeros(query.points, 0))


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


def _read_share(
    query: Query, blocks: Sequence[Block], share: list[tuple[int, int, int]]
) -> RowSums:
    """Read a share of the rows, its dense and its sparse ones apart."""
    kinds = [
        [part for part in share if blocks[part[0]].sparse is sparse] for sparse in (False, True)
    ]
    return sum(
        (_read_alike(query, blocks, part) for part in kinds if part),
        start=RowSums.zeros(query.points, 0),
    )


# An overflowing trial is known by its sums; on the way there it is no news.
@np.errstate(all="ignore")
def _read_alike(
    query: Query, blocks: Sequence[Block], share: list[tuple[int, int, int]]
) -> RowSums:
    # Numba takes half a second to import; whoever only builds a problem need not wait.
    from dresoftmax.kernels import dense as kernels

    sketch, targets, unit = query.sketch, query.targets, query.unit
    # w is in units of α, too, where the loss is.
    penalty = np.exp(-2.0 * query.log_alpha if query.rescaled else 0.0 * query.log_alpha)
    rule = RULES[sketch.kind]
    K, d = query.points.shape
    G = K + query.metric if rule else 0
    sums = RowSums.zeros(query.points, G)
    capacity = _capacity(d)
    sparse = blocks[share[0][0]].sparse
    # Grams that the kernel adds to by itself, and those that wait for products of many rows.
    direct = sketch.kind != "countsketch" if sparse else sketch.kind == "exact" and d <= FEW_COLUMNS
    buffered = 0 if direct else G
    buffer = np.empty((buffered, 2, capacity, d))
    filled = np.zeros((buffered, 2), dtype=np.int64)
    product = np.empty((d, d) if buffered else (0, 0))
    gram = sums.gram if sparse or direct else np.empty((0, d, d))
    # A copy, since they may be read-only, for which the kernel would be compiled anew.
    probes = sketch.probes.copy() if sketch.kind == "leverage" else np.empty((0, d))

    for position, start, stop in share:
        block = blocks[position]
        A = block.A
        if A.shape[1] != d:  # a lazy array need not keep what it says
            raise ValueError(f"block {block.index} of A has {A.shape[1]} columns, but A has {d}")
        common = (
            query.points, targets, query.log_alpha, query.kappa, penalty,
            unit.family, unit.own, unit.evaluate,
            rule, sketch.rate, sketch.leverage_rate, probes, _key(sketch, block.index),
            sums.scalars, sums.vectors, buffer, filled, gram,
        )  # fmt: skip
        row = start
        while row < stop:
            before = row
            head = (block.b, block.w2, block.weight, row, stop)
            if sparse:
                row, entered, bad = kernels.csr_rows(A.data, A.indices, A.indptr, *head, *common)
            else:
                row, entered, bad = kernels.dense_rows(A, *head, *common)
            sums.sketched += entered
            sums.rows += row - before
            if bad >= 0 and sums.bad is None and not np.isfinite(block.row(bad)).all():
                sums.bad = (block.index, bad)
            if row < stop or sketch.kind == "countsketch":
                _flush(buffer, filled, sums.gram, product)
        if query.metric and sketch.kind != "exact":
            weight = np.broadcast_to(block.weight, block.rows)[start:stop]
            sums.squares += _squares(A[start:stop], weight, sparse)
    _flush(buffer, filled, sums.gram, product)
    if not buffered:
        for each in sums.gram:
            each += np.triu(each, 1).T
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
    if not sketch.draws:
        return np.uint64(0)
    entropy = [STREAM, index, *sketch.entropy]
    return np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
