"""The sums over all rows that the parts of the Hessian, and their bounds, are made of.

They are taken at a point where α and κ are known, by one read, over blocks that are held
or loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.reductions.panels import Panel, sum_panels
from dresoftmax.theory.row_operators import Point

__all__ = ["PartSums", "sum_blocks"]


@dataclass(frozen=True, slots=True)
class PartSums:
    """Sums over rows, and the largest entries of vectors over them.

    Attributes
    ----------
    grams : ndarray of shape (4, d, d)
        Aᵀdiag(·)A of v²/α², e∘(c − κ)/α, w² and 1.
    vectors : ndarray of shape (3, d)
        p, q and r: Aᵀ of v/α, v∘f/α and v∘c/α.
    scalars : ndarray of shape (4,)
        ‖f‖², ‖v/α‖², ‖g‖² and ⟨g, v/α⟩.
    largest : ndarray of shape (5,)
        Largest of |v/α|, e∘(c − κ)/α, w², and of the last two with their signs turned.
    """

    grams: np.ndarray
    vectors: np.ndarray
    scalars: np.ndarray
    largest: np.ndarray

    @classmethod
    def zeros(cls, d: int) -> PartSums:
        """Return the sums over no rows."""
        return cls(np.zeros((4, d, d)), np.zeros((3, d)), np.zeros(4), np.full(5, -np.inf))

    def __add__(self, other: PartSums) -> PartSums:
        return PartSums(
            self.grams + other.grams,
            self.vectors + other.vectors,
            self.scalars + other.scalars,
            np.maximum(self.largest, other.largest),
        )


def sum_blocks(point: Point, blocks: Sequence[Block | LazyBlock], threads: int) -> PartSums:
    """Return the sums over all rows of `blocks`."""
    return sum_panels(partial(_sum_panels, point), blocks, threads)


def _sum_panels(point: Point, panels: Sequence[Panel]) -> PartSums:
    each = (_sum_panel(point, block, rows) for block, rows in panels)
    return sum(each, start=PartSums.zeros(len(point.x)))


def _sum_panel(point: Point, block: Block, rows: slice) -> PartSums:
    A = block.A[rows].astype(np.float64, copy=False)
    w2 = np.broadcast_to(block.w2, block.rows)[rows]
    v, f, c, g, bend = point.rows(A, block.b[point.target, rows])
    extremes = [np.abs(v), bend, w2, -bend, -w2]
    return PartSums(
        np.stack([_gram(A, D) for D in (v * v, bend, w2, np.ones_like(v))]),
        np.stack([A.T @ each for each in (v, v * f, v * c)]),
        np.array([f @ f, v @ v, g @ g, g @ v]),
        np.array([each.max() for each in extremes]),
    )


def _gram(A: Any, D: np.ndarray) -> np.ndarray:
    """Return Aᵀdiag(D)A, exactly symmetric."""
    gram = (A.T @ A.multiply(D[:, None])).toarray() if issparse(A) else A.T @ (D[:, None] * A)
    return 0.5 * (gram + gram.T)
