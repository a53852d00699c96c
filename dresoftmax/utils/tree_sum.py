"""Sums of partial results, in one place or in a tree of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["add", "batches"]

T = TypeVar("T")

# Partial results that one task of the tree adds.
FAN_IN = 8


def batches(parts: Sequence[T]) -> list[Sequence[T]]:
    """Divide partial results among the tasks that add them, in order."""
    return [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]


def add(parts: Sequence[Any]) -> Any:
    """Return the sum of at least one partial result."""
    return sum(parts[1:], start=parts[0])
