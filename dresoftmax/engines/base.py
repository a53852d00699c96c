"""Where the rows lie, and how all of them are read at once.

An engine holds the blocks and has one operation, ``reduce(task)``: call
``task(blocks, threads)`` wherever blocks lie, add up what comes back, and return
the sum.  That is one round trip, and a task is a pure function, so that what is
lost on the way is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock

__all__ = ["Engine", "add", "batches"]

T = TypeVar("T")

# Partial results that one task of the tree adds where the blocks lie in many places.
FAN_IN = 8


class Engine(Protocol):
    """Holds the blocks of a problem."""

    def reduce(self, task: Callable[[Sequence[Block | LazyBlock], int], T]) -> T:
        """Return the sum of ``task(blocks, threads)`` over all places with blocks."""

    def close(self) -> None:
        """Let go of the blocks."""


def batches(parts: Sequence[T]) -> list[Sequence[T]]:
    """Divide partial results among the tasks that add them, in order."""
    return [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]


def add(parts: Sequence[Any]) -> Any:
    """Return the sum of at least one partial result."""
    return sum(parts[1:], start=parts[0])
