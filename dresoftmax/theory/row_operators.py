"""The factors of each row at a point, and n×n operators built from them.

With z = Ax, v = u'(z) and e = u''(z) of the unit u, α = Σu(z), f = u(z)/α, c = f − b and
κ = ⟨f, c⟩, the factors of a row are v/α, f, c, g = v∘(c − κ)/α and e∘(c − κ)/α.  An n×n matrix
that is diagonal plus low rank needs only a few such vectors, and is never formed.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import dask
import dask.array as da
import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.make import make_block
from dresoftmax.inputs.containers import RemoteRows
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.model.evaluation import Evaluation
from dresoftmax.model.units import AnyUnit
from dresoftmax.placement.chunks import cut, measured
from dresoftmax.problem import Problem
from dresoftmax.reductions import panels

__all__ = ["Part", "Point", "RowFactors"]

# Number of vectors in `RowFactors.columns`.
COLUMNS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A point at which α and κ are known, and with them the factors of each row."""

    x: np.ndarray
    log_alpha: float
    kappa: float
    unit: AnyUnit
    target: int

    @classmethod
    def of(cls, problem: Problem, found: Evaluation) -> Point:
        """Return the point of an exact evaluation."""
        return cls(found.x, found.log_alpha, found.kappa, problem.unit, problem.target)

    def rows(self, panel: Block) -> np.ndarray:
        """Return v/α, f, c, g and e∘(c − κ)/α of some rows, of shape (5, rows)."""
        f, v, e = self.unit.scaled(panel.matmul(self.x), self.log_alpha)
        c = f - panel.b[self.target]
        return np.stack([v, f, c, v * (c - self.kappa), e * (c - self.kappa)])


@dataclass(frozen=True)
class RowFactors:
    """Vectors over all rows that define the parts; computed on first use."""

    data: Dataset
    point: Point

    @cached_property
    def columns(self) -> Any:
        """v/α, v∘f/α, g, v²/α², e∘(c − κ)/α and w², of shape (n, 6).

        A dask array if A is one, else a NumPy array.
        """
        data = self.data
        if isinstance(data.A, RemoteRows):
            raise TypeError(
                "A is a Ray Dataset, which has no products with the parts; pass a dask or NumPy "
                "array"
            )
        make = partial(_columns, point=self.point)
        if not isinstance(data.A, da.Array):
            b, w = dask.compute(data.b, data.w)
            each = [
                make(data.A[rows], b[rows], w[rows] if np.ndim(w) else w)
                for rows in panels.cut(data.A.shape[0], data.d)
            ]
            return np.concatenate(each)
        data = measured(data, A_too=False)
        chunks = data.A.chunks[0]
        w = _like(data.w, chunks) if np.ndim(data.w) else data.w
        return da.map_blocks(
            make, data.A, _like(data.b, chunks), w,
            dtype=np.float64, chunks=(chunks, COLUMNS), meta=np.empty((0, COLUMNS)),
            name=f"dresoftmax-rows-{uuid.uuid4().hex}",
        )  # fmt: skip


def _columns(A: Any, b: Any, w: Any, *, point: Point) -> np.ndarray:
    block = make_block(0, A, b, np.ravel(w) if np.ndim(w) else w)
    columns = np.empty((block.rows, COLUMNS))
    for rows in panels.cut(block.rows, block.A.shape[1]):
        v, f, _, g, bend = point.rows(block.part(rows))
        columns[rows, :5] = np.stack([v, v * f, g, v * v, bend], axis=1)
    columns[:, 5] = block.w2
    return columns


def _like(vector: Any, chunks: tuple[int, ...]) -> da.Array:
    """Return b or w as a two-dimensional dask array with the row chunks of A."""
    array = da.asarray(vector)
    return cut(array[:, None] if array.ndim == 1 else array, chunks)


@dataclass(frozen=True)
class Part:
    """A symmetric n×n matrix diag(D) + U K Uᵀ, given by its action, bounds and image.

    Attributes
    ----------
    n : int
        Rows of A.
    low, high : float
        Bounds of its eigenvalues.
    image : ndarray of shape (d, d)
        Aᵀ(diag(D) + U K Uᵀ)A, symmetric.
    core : ndarray of shape (k, k)
        K; k = 0 if the matrix is diagonal.
    factors : RowFactors
        D and U are columns of these.
    on_diagonal : int or None
        The column that is D; None if D = 0.
    beside : slice
        The columns that are U.
    """

    n: int
    low: float
    high: float
    image: np.ndarray = field(repr=False)
    core: np.ndarray = field(repr=False)
    factors: RowFactors = field(repr=False)
    on_diagonal: int | None = field(repr=False)
    beside: slice = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return self.n, self.n

    @property
    def diagonal(self) -> Any:
        """D of shape (n,), a dask array if A is one, else a NumPy array."""
        columns = self.factors.columns
        return (
            np.zeros_like(columns[:, 0])
            if self.on_diagonal is None
            else columns[:, self.on_diagonal]
        )

    @property
    def columns(self) -> Any:
        """U of shape (n, k), a dask array if A is one, else a NumPy array."""
        return self.factors.columns[:, self.beside]

    def __matmul__(self, y: Any) -> Any:
        """Return the product with y of shape (n,), lazy if A is a dask array."""
        if np.shape(y) != (self.n,):
            raise ValueError(
                f"y has shape {np.shape(y)}, but the matrix acts on vectors of length {self.n}"
            )
        D, U = self.diagonal, self.columns
        if isinstance(D, da.Array):
            y = da.asarray(y).rechunk((D.chunks[0],))
        return D * y + U @ (self.core @ (U.T @ y)) if len(self.core) else D * y
