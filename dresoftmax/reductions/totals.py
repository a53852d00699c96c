"""What is known of all rows before any of A is read: sizes, Σb and the norms of b."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.model.loss import TargetTotals

__all__ = ["Totals", "read_totals"]


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals over all blocks.

    Attributes
    ----------
    n, nbytes, entries : int
        Rows, bytes of all blocks when in memory, and stored entries of A.
    loaded : int
        Rows that are loaded anew in each read.
    b_sum, b_norm1, b_norm2 : ndarray of shape (k,)
        Σb, ‖b‖₁ and ‖b‖² of each target.
    """

    n: int
    nbytes: int
    entries: int
    loaded: int
    b_sum: np.ndarray
    b_norm1: np.ndarray
    b_norm2: np.ndarray

    @property
    def targets(self) -> int:
        """How many targets there are."""
        return len(self.b_sum)

    @property
    def b_norm(self) -> np.ndarray:
        """‖b‖ of each target."""
        return np.sqrt(self.b_norm2)

    def of_target(self, target: int) -> TargetTotals:
        """Return what concerns one target."""
        sums = (self.b_sum, self.b_norm1, self.b_norm2)
        return TargetTotals(self.n, *(float(each[target]) for each in sums))

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.n + other.n,
            self.nbytes + other.nbytes,
            self.entries + other.entries,
            self.loaded + other.loaded,
            self.b_sum + other.b_sum,
            self.b_norm1 + other.b_norm1,
            self.b_norm2 + other.b_norm2,
        )


def read_totals(blocks: Sequence[Block | LazyBlock], threads: int) -> Totals:
    """Return the totals over `blocks`, without reading or loading A.

    `threads` is there for every task on blocks to have the same signature.
    """
    return sum(map(_totals, blocks), start=Totals(0, 0, 0, 0, *np.zeros((3, 1))))


def _totals(block: Block | LazyBlock) -> Totals:
    b = block.without_A().b if isinstance(block, LazyBlock) else block.b
    return Totals(
        n=block.rows,
        nbytes=block.nbytes,
        entries=block.entries,
        loaded=block.rows if isinstance(block, LazyBlock) else 0,
        b_sum=b.sum(axis=1),
        b_norm1=np.abs(b).sum(axis=1),
        b_norm2=np.einsum("ki,ki->k", b, b),
    )
