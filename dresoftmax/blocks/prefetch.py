"""Blocks that are loaded, used and let go of, a few at a time.

One thread more than there is to compute with, so that a block is loaded while
others are computed, even where there is one thread for both; never more compute.
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

# While a block is loaded there are so many of it: as it comes, and as it is kept.
COPIES = 2
# Results that wait for an earlier one, for each thread; a slow block delays no other.
AHEAD = 2


def split(
    blocks: Sequence[Block | LazyBlock],
) -> tuple[Sequence[Block], Sequence[LazyBlock]]:
    """Return the blocks that are held, and those that are not."""
    deferred = [block for block in blocks if isinstance(block, LazyBlock)]
    held = [block for block in blocks if isinstance(block, Block)] if deferred else blocks
    return cast(Sequence[Block], held), deferred


def map_loaded(
    function: Callable[[Block], T], blocks: Sequence[LazyBlock], threads: int
) -> Iterator[T]:
    """Yield ``function(block)`` for each block, loaded, in their order.

    Each is loaded and computed by one thread, and no more of them exist at once than
    there is room for.
    """
    if not blocks:
        return
    largest = max(1, *(block.nbytes for block in blocks))
    fit = min(block.room for block in blocks) // (COPIES * largest)
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
