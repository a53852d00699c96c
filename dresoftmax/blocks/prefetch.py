"""Blocks that are loaded, used and released, a few at a time.

The pool has one thread more than may compute at a time, so that a block is loaded while
others are computed, even if only one thread may compute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from typing import TypeVar, cast

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.utils.blas_threads import one_blas_thread

__all__ = ["COPIES", "map_loaded", "split"]

T = TypeVar("T")

# Copies of a block in memory while it is loaded: as it arrives, and as it is kept.
COPIES = 2
# Results per thread that may wait for an earlier one, so that a slow block delays no other.
AHEAD = 2


def split(
    blocks: Sequence[Block | LazyBlock],
) -> tuple[Sequence[Block], Sequence[LazyBlock]]:
    """Return the held blocks, and the lazy ones."""
    lazy = [block for block in blocks if isinstance(block, LazyBlock)]
    held = [block for block in blocks if isinstance(block, Block)] if lazy else blocks
    return cast(Sequence[Block], held), lazy


def map_loaded(
    function: Callable[[Block], T], blocks: Sequence[LazyBlock], threads: int
) -> Iterator[T]:
    """Yield ``function(block)`` for each block, after loading it, in the order of `blocks`.

    One thread loads and computes a block.  No more blocks are loaded at a time than fit into
    memory.
    """
    if not blocks:
        return
    largest = max(1, *(block.nbytes for block in blocks))
    fit = min(block.A.room for block in blocks) // (COPIES * largest)
    lanes = max(1, min(threads + 1, fit, len(blocks)))

    computing = Semaphore(threads)

    def work(block: LazyBlock) -> T:
        loaded = block.load()
        with computing:
            return function(loaded)

    with one_blas_thread, ThreadPoolExecutor(lanes) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for block in blocks:
                if len(waiting) == AHEAD * lanes:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, block))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
