"""An engine holds the blocks of rows, and reduces a task over all of them.

It has one operation, ``reduce(task)``: call ``task(blocks, threads)`` wherever blocks lie,
and return the sum of the results.  This is one round trip.  A task is a pure function, so
that lost work can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock

__all__ = ["Engine"]

T = TypeVar("T")


class Engine(Protocol):
    """Holds the blocks of a problem."""

    def reduce(self, task: Callable[[Sequence[Block | LazyBlock], int], T]) -> T:
        """Return the sum of ``task(blocks, threads)`` over all places with blocks."""

    def close(self) -> None:
        """Release the blocks."""
