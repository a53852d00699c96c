"""One read: (blocks, queries) → sums over all their rows, for each query.

`evaluate_blocks` is the only thing that a solve does to the data, on a worker or in
this process.  It is a pure function of its arguments: it keeps no state, and a lost result
is computed again by calling it again.  Threads divide the rows; each adds up its own share,
and the shares are added in order.

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
from dresoftmax.kernels.arguments import EVERY_ROW, NO_ROW, SAMPLED, Output, Request
from dresoftmax.model.losses import ROW_TERMS
from dresoftmax.model.row_sums import RowSums
from dresoftmax.reductions.countsketch import add_buckets, panels_to_hash, rows_to_hash
from dresoftmax.reductions.query import Answers, Query, Sketch, join
from dresoftmax.utils.blas_threads import one_blas_thread

__all__ = ["evaluate_blocks"]

# What the kernels do for a sketch; "countsketch" has them say what D is.
RULES = {
    "none": NO_ROW,
    "exact": EVERY_ROW,
    "leverage": SAMPLED,
    "uniform": SAMPLED,
    "countsketch": NO_ROW,
}

# Sets the variates of reads apart from those of the sample.
STREAM = 2
# Below this many numbers of A a second thread costs more than it saves.
NUMBERS_PER_THREAD = 100_000
# Rows wait for their Gram product in a buffer that should stay in cache; a product of
# fewer rows costs hardly more than adding it up.
BUFFER_NUMBERS, LEAST_BUFFER_ROWS = 1 << 16, 512

# Some rows of a block: its position, the first and the one after the last.
Part = tuple[int, int, int]


def evaluate_blocks(
    queries: Sequence[Query], blocks: Sequence[Block | LazyBlock], threads: int
) -> Answers:
    """Return the sums of each query over all rows of `blocks`."""
    joined = join(queries)

    def read(blocks: Sequence[Block], threads: int) -> Answers:
        return Answers([_read_held(query, blocks, threads) for query, _ in joined])

    held, lazy = split(blocks)
    loaded = map_loaded(lambda block: read([block], 1), lazy, threads)
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
    hashed = query.sketch.kind == "countsketch"
    panel = rows_to_hash(query.sketch.rate, _capacity(d)) if hashed else 1
    shares = list(_shares(sizes, useful, panel))
    work = partial(_read_share, query, blocks)
    # Without a Hessian, or with one of few rows, there is nothing or little for BLAS to do.
    little = query.sketch.kind == "none" or useful == 1 < threads
    with nullcontext() if little else one_blas_thread:
        if useful == 1:
            return work(shares[0])
        with ThreadPoolExecutor(useful) as pool:
            return sum(pool.map(work, shares), start=RowSums.zeros(query.points, 0))


def _capacity(d: int) -> int:
    """Return the rows that the buffer holds."""
    return max(LEAST_BUFFER_ROWS, BUFFER_NUMBERS // d)


def _shares(sizes: Sequence[int], count: int, panel: int) -> Iterator[list[Part]]:
    """Divide the rows of all blocks evenly.

    No panel, of so many rows of a block, is divided.
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


def _read_share(query: Query, blocks: Sequence[Block], share: list[Part]) -> RowSums:
    """Read a share of the rows, each kind of them apart."""
    parts: dict[type[Block], list[tuple[Block, int, int]]] = {}
    for position, start, stop in share:
        block = blocks[position]
        parts.setdefault(type(block), []).append((block, start, stop))
    alike = (_read_alike(query, kind, part) for kind, part in parts.items())
    return sum(alike, start=RowSums.zeros(query.points, 0))


# An overflowing trial is known by its sums; on the way there it is no news.
@np.errstate(all="ignore")
def _read_alike(
    query: Query, kind: type[Block], share: Sequence[tuple[Block, int, int]]
) -> RowSums:
    """Read rows of blocks of one kind."""
    sketch, (K, d) = query.sketch, query.points.shape
    G = 0 if sketch.kind == "none" else K + query.column_gram
    sums = RowSums.zeros(query.points, G)
    hashed = sketch.kind == "countsketch"
    at_once = kind.adds_exact(d) if sketch.kind == "exact" else kind.adds_sketch
    waiting = 0 if at_once or hashed else G
    output = Output(
        scalars=sums.scalars,
        vectors=sums.vectors,
        buffer=np.empty((waiting, 2, _capacity(d), d)),
        filled=np.zeros((waiting, 2), dtype=np.int64),
        gram=sums.gram if at_once and not hashed else np.empty((0, d, d)),
        curvature=np.empty((G, 0)),
    )
    product = np.empty((d, d) if waiting else (0, 0))
    request, evaluate = _request(query), query.unit.evaluate
    for block, start, stop in share:
        if block.A.shape[1] != d:  # a lazy array need not keep what it says
            raise ValueError(
                f"block {block.index} of A has {block.A.shape[1]} columns, but A has {d}"
            )
        asked = request._replace(key=_key(sketch, block.index))
        if hashed:
            _read_hashed(sketch, block, start, stop, asked, evaluate, output, sums)
        row = start
        while row < stop and not hashed:
            row = _add_rows(block, row, stop, asked, evaluate, output, sums)
            if row < stop:
                _flush(output, sums.gram, product)
        if query.column_gram and sketch.kind != "exact":
            sums.squares += block.part(slice(start, stop)).squares()
    _flush(output, sums.gram, product)
    if at_once and not hashed:
        for each in sums.gram:
            each += np.triu(each, 1).T
    return sums


def _request(query: Query) -> Request:
    """Return a query in the form that kernels take."""
    sketch, unit, loss = query.sketch, query.unit, query.loss
    # A copy, since they may be read-only, for which the kernel would be compiled anew.
    leverage = sketch.kind == "leverage"
    probes = sketch.probes.copy() if leverage else np.empty((0, query.points.shape[1]))
    return Request(
        points=query.points,
        targets=query.targets,
        log_alpha=query.log_alpha,
        kappa=query.kappa,
        penalty=loss.penalty_unit(query.log_alpha),
        family=unit.family,
        own=unit.own,
        loss=ROW_TERMS.index(loss.row_terms),
        rule=RULES[sketch.kind],
        rate=sketch.rate,
        leverage_rate=sketch.leverage_rate,
        probes=probes,
        key=np.uint64(0),
    )


def _add_rows(
    block: Block, row: int, stop: int, request: Request, evaluate: Any, output: Output,
    sums: RowSums,
) -> int:  # fmt: skip
    """Have the kernel add rows, and return the first that it has not read."""
    end, entered, bad = block.add_rows(row, stop, request, evaluate, output)
    sums.sketched += entered
    sums.rows += end - row
    if bad >= 0 and sums.bad is None and not np.isfinite(block.row(bad)).all():
        sums.bad = (block.index, bad)
    return end


def _read_hashed(
    sketch: Sketch, block: Block, start: int, stop: int, request: Request, evaluate: Any,
    output: Output, sums: RowSums,
) -> None:  # fmt: skip
    """Add rows, their Hessian by "countsketch"."""
    from dresoftmax.kernels.row_sampling import uniforms

    capacity = _capacity(block.A.shape[1])
    for low, high in panels_to_hash(start, stop, rows_to_hash(sketch.rate, capacity)):
        kept = output._replace(curvature=np.empty((len(sums.gram), high - low)))
        _add_rows(block, low, high, request, evaluate, kept, sums)
        buckets = min(capacity, max(1, round((high - low) * sketch.rate)))
        variates = uniforms(request.key, low, high)
        panel = block.part(slice(low, high))
        add_buckets(panel, kept.curvature, variates, buckets, sums.gram)
        sums.sketched += high - low


def _flush(output: Output, gram: np.ndarray, product: np.ndarray) -> None:
    """Add the products of the rows in the buffer to the Grams, and empty it."""
    for g, filled in enumerate(output.filled):
        for side, add in ((0, np.add), (1, np.subtract)):
            rows = output.buffer[g, side, : filled[side]]
            if len(rows):
                # NumPy recognises RᵀR and calls the symmetric product.
                add(gram[g], np.matmul(rows.T, rows, out=product), out=gram[g])
    output.filled[:] = 0


def _key(sketch: Sketch, index: int) -> np.uint64:
    """Return the key of a block's variates in this read."""
    if not sketch.draws:
        return np.uint64(0)
    entropy = [STREAM, index, *sketch.entropy]
    return np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
