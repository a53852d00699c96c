"""The sums over rows that give the parts of the Hessian and their bounds.

One read takes them at a point where α and κ are known, over blocks that are held or loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.reductions.panels import sum_panels
from dresoftmax.theory.row_operators import Point

__all__ = ["PartSums", "sum_blocks"]


@dataclass(frozen=True, slots=True)
class PartSums:
    """Sums over rows, and the largest entries of vectors with one entry per row.

    Attributes
    ----------
    grams : ndarray of shape (4, d, d)
        Aᵀdiag(D)A for D = v²/α², e∘(c − κ)/α, w² and 1.
    vectors : ndarray of shape (3, d)
        p, q and r: Aᵀ times v/α, v∘f/α and v∘c/α.
    scalars : ndarray of shape (4,)
        ‖f‖², ‖v/α‖², ‖g‖² and ⟨g, v/α⟩.
    largest : ndarray of shape (5,)
        Maxima of |v/α|, e∘(c − κ)/α and w², and of the last two with their signs changed.
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


def _sum_panels(point: Point, panels: Iterable[Block]) -> PartSums:
    return sum((_sum_panel(point, panel) for panel in panels), start=PartSums.zeros(len(point.x)))


def _sum_panel(point: Point, panel: Block) -> PartSums:
    w2 = np.broadcast_to(panel.w2, panel.rows)
    v, f, c, g, bend = point.rows(panel)
    extremes = [np.abs(v), bend, w2, -bend, -w2]
    return PartSums(
        np.stack([panel.gram(D) for D in (v * v, bend, w2, np.ones_like(v))]),
        np.stack([panel.rmatmul(each) for each in (v, v * f, v * c)]),
        np.array([f @ f, v @ v, g @ g, g @ v]),
        np.array([each.max() for each in extremes]),
    )
