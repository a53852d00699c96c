"""Rows of A, b and w → a block of the kind that suits them.

A block's part of A is converted once, into the layout that the kernels of its kind read.
Arrays that have this layout already are kept without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dresoftmax.blocks.base import Block, check_values, usual
from dresoftmax.blocks.csr import CsrBlock
from dresoftmax.blocks.dense import DenseBlock

__all__ = ["RowVectors", "concatenate", "make_block", "make_vectors"]

# The kinds of rows, in the order in which they are tried.
KINDS: tuple[type[Block], ...] = (DenseBlock, CsrBlock)


@dataclass(frozen=True, slots=True)
class RowVectors:
    """b and w of some rows, checked and in the layout of a `Block`; A may come later."""

    index: int
    b: np.ndarray
    w2: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays occupy."""
        return self.b.nbytes + self.w2.nbytes

    def with_A(self, A: Any) -> Block:
        """Return the block with these rows of A, which are converted if necessary.

        Raises
        ------
        TypeError, ValueError
            If A is not real, or has another number of rows than b and w.
        """
        kind, A = _converted(self.index, A)
        if A.shape[0] != self.b.shape[1] or self.w2.size not in (1, A.shape[0]):
            raise ValueError(
                f"block {self.index} of A has {A.shape[0]} rows, but b and w have "
                f"{self.b.shape[1]} and {self.w2.size}"
            )
        return kind(self.index, A, self.b, self.w2, np.ones(1))


def make_block(index: int, A: Any, b: Any, w: Any) -> Block:
    """Return rows of A, b and w as a `Block`, converted if necessary.

    Raises
    ------
    TypeError, ValueError
        If A is not real, if b or w is not finite, if a weight is negative, or if the
        numbers of rows differ.
    """
    return make_vectors(index, b, w).with_A(A)


def make_vectors(index: int, b: Any, w: Any) -> RowVectors:
    """Return rows of b and w.

    Raises
    ------
    ValueError
        If b or w is not finite, or if a weight is negative.
    """
    b = np.asarray(b)
    w = np.zeros(1) if w is None else np.atleast_1d(np.asarray(w, dtype=np.float64))
    place = f" of block {index}"
    check_values("b", b, place)
    check_values("w", w, place)
    lines = usual(np.require(np.atleast_2d(b.T), np.float64, "C"))
    return RowVectors(index, lines, np.square(w))


def concatenate(blocks: Sequence[Block]) -> Block:
    """Stack blocks by their index into one, which is dense if they are of several kinds."""
    blocks = sorted(blocks, key=lambda block: block.index)
    if len(blocks) == 1:
        return blocks[0]
    kinds = {type(block) for block in blocks}
    kind = kinds.pop() if len(kinds) == 1 else DenseBlock

    def column(name: str) -> np.ndarray:
        parts = [np.broadcast_to(getattr(block, name), block.rows) for block in blocks]
        return np.concatenate(parts)

    b = np.concatenate([block.b for block in blocks], axis=1)
    return kind(0, kind.stack(blocks), b, column("w2"), column("weight"))


def _converted(index: int, A: Any) -> tuple[type[Block], Any]:
    """Return the class for some rows of A, and the rows as that class keeps them."""
    if isinstance(A, np.ma.MaskedArray):
        raise TypeError(
            f"block {index} of A is a masked array; fill its masked entries, or drop such rows"
        )
    if getattr(A, "ndim", 2) != 2:
        raise ValueError(f"block {index} of A has shape {A.shape}; two dimensions are needed")
    for kind in KINDS:
        rows = kind.convert(A)
        if rows is not None:
            return kind, rows
    raise TypeError(
        f"block {index} of A is of type {type(A).__name__}; the blocks of a dask array must "
        "be NumPy or sparse arrays (pass tables as a list of delayed blocks)"
    )
