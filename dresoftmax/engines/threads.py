"""The engine of one process: the blocks lie in its memory, and its threads read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.engines.worker_context import in_task

__all__ = ["ThreadsEngine", "cores"]

T = TypeVar("T")


class ThreadsEngine:
    """Read blocks that lie in this process's memory.

    Parameters
    ----------
    blocks : sequence of Block or LazyBlock
    """

    def __init__(self, blocks: Sequence[Block | LazyBlock]) -> None:
        self.blocks = blocks
        self.threads = cores()

    def reduce(self, task: Callable[[Sequence[Block | LazyBlock], int], T]) -> T:
        """Return ``task(blocks, threads)``."""
        return task(self.blocks, self.threads)

    def close(self) -> None:
        """Release the blocks."""
        self.blocks = ()


def cores() -> int:
    """Return the number of cores this process may use; one in a Dask task, as for any task."""
    if in_task():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
