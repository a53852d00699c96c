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
from dresoftmax.engines.base import add
from dresoftmax.utils.blas_threads import one_blas_thread

__all__ = ["Panel", "cut", "sum_panels"]

# Numbers of A in a panel, which stays in cache; and the least rows, for its square to be
# dearer than adding it up.
PANEL_NUMBERS, LEAST_ROWS = 1 << 16, 512

# A block, and which of its rows.
Panel = tuple[Block, slice]

T = TypeVar("T")


def cut(rows: int, d: int) -> Iterator[slice]:
    """Cut so many rows with d columns into panels."""
    step = max(LEAST_ROWS, PANEL_NUMBERS // d)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def sum_panels(
    add_up: Callable[[Sequence[Panel]], T], blocks: Sequence[Block | LazyBlock], threads: int
) -> T:
    """Return the sum over all rows of `blocks`.

    `add_up` returns that over some panels, which may be none.
    """
    held, deferred = split(blocks)
    panels = [panel for block in held for panel in _panels(block)]
    # Each thread adds up its own share, so that few sums exist at a time.
    count = max(1, min(threads, len(panels)))
    cuts = [len(panels) * i // count for i in range(count + 1)]
    shares = [panels[low:high] for low, high in pairwise(cuts)]
    with one_blas_thread, ThreadPoolExecutor(count) as pool:
        total: Any = add(list(pool.map(add_up, shares)))
    for part in map_loaded(lambda block: add_up(_panels(block)), deferred, threads):
        total = total + part
    return total


def _panels(block: Block) -> list[Panel]:
    return [(block, rows) for rows in cut(block.rows, block.A.shape[1])]
