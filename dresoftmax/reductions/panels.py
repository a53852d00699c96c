"""Sums over rows in plain NumPy, by panels: for reads that the fused loops do not know.

A panel is a few rows of a block, so that no temporary is as large as A.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.blocks.prefetch import map_loaded, split
from dresoftmax.utils.blas_threads import one_blas_thread
from dresoftmax.utils.tree_sum import add

__all__ = ["cut", "sum_panels"]

# Numbers of A in a panel, which stays in cache; and its least rows, so that the square of a
# panel costs more than adding it up.
PANEL_NUMBERS, LEAST_ROWS = 1 << 16, 512

T = TypeVar("T")


def cut(rows: int, d: int) -> Iterator[slice]:
    """Cut so many rows with d columns into panels."""
    step = max(LEAST_ROWS, PANEL_NUMBERS // d)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def sum_panels(
    add_up: Callable[[Iterator[Block]], T], blocks: Sequence[Block | LazyBlock], threads: int
) -> T:
    """Return the sum over all rows of `blocks`.

    `add_up` returns that over some panels, which may be none.
    """
    held, lazy = split(blocks)
    panels = [(block, rows) for block in held for rows in cut(block.rows, block.A.shape[1])]
    # Each thread adds up its own share, so that few sums exist at a time.
    count = max(1, min(threads, len(panels)))
    cuts = [len(panels) * i // count for i in range(count + 1)]
    shares = [panels[low:high] for low, high in pairwise(cuts)]

    def add_share(share: Sequence[tuple[Block, slice]]) -> T:
        return add_up(block.part(rows) for block, rows in share)

    def add_block(block: Block) -> T:
        return add_up(block.part(rows) for rows in cut(block.rows, block.A.shape[1]))

    with one_blas_thread, ThreadPoolExecutor(count) as pool:
        total: Any = add(list(pool.map(add_share, shares)))
    for part in map_loaded(add_block, lazy, threads):
        total = total + part
    return total
