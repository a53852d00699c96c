"""Where the rows lie, and how all of them are read at once.

An engine holds the blocks and has one operation, ``reduce(task)``: call
``task(blocks, threads)`` wherever blocks lie, add up what comes back, and return
the sum.  That is one round trip, and a task is a pure function, so that what is
lost on the way is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from dresoftmax.blocks import Block
from dresoftmax.deferred import Deferred

__all__ = ["Engine"]

T = TypeVar("T")


class Engine(Protocol):
    """Holds the blocks of a problem."""

    def reduce(self, task: Callable[[Sequence[Block | Deferred], int], T]) -> T:
        """Return the sum of ``task(blocks, threads)`` over all places with blocks."""

    def close(self) -> None:
        """Let go of the blocks."""
