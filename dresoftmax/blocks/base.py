"""A block of rows: what a worker holds of A, b and w.

There is a class for each kind of rows that the kernels read: `dense`, `csr`.  Each operation
on rows is a method here, so that no other folder has to ask for their kind.

Nothing here knows of Dask, of the objective or of the iteration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp

from dresoftmax.kernels.arguments import Output, Request

__all__ = ["Block", "check_values", "storage_dtype", "usual"]


@dataclass(frozen=True, slots=True)
class Block(ABC):
    """Rows of the problem that lie together.

    Attributes
    ----------
    index : int
        Position of the block among all blocks; it seeds the block's randomness.
    A : Any
        Rows of A, in float32 or float64; each class has its own container.
    b : ndarray of shape (k, rows)
        The targets, one per line.
    w2, weight : ndarray of shape (rows,) or (1,)
        Squared row weight w² of the quadratic term, and the weight of the row in
        every sum (1 on the data, 1/π on a sample); length 1 stands for the same
        value in every row.
    """

    index: int
    A: Any
    b: np.ndarray
    w2: np.ndarray
    weight: np.ndarray

    # Whether rows are added to a sketched Hessian directly, without a buffer.
    adds_sketch: ClassVar[bool]

    @classmethod
    @abstractmethod
    def convert(cls, A: Any) -> Any:
        """Return rows of A as this class keeps them, or None if they are of another kind."""

    @classmethod
    @abstractmethod
    def stack(cls, blocks: Sequence[Self]) -> Any:
        """Return the rows of A of several blocks of this kind, one below the other."""

    @classmethod
    @abstractmethod
    def adds_exact(cls, d: int) -> bool:
        """Whether rows of d columns are added to an exact Hessian directly, without a buffer."""

    @property
    @abstractmethod
    def entries(self) -> int:
        """Stored entries of A."""

    @property
    @abstractmethod
    def A_nbytes(self) -> int:
        """Bytes that A occupies."""

    @abstractmethod
    def row(self, i: int) -> np.ndarray:
        """Return row `i` of A, dense."""

    @abstractmethod
    def dense(self) -> np.ndarray:
        """Return A as a dense array."""

    @abstractmethod
    def add_rows(
        self, start: int, stop: int, request: Request, evaluate: Any, output: Output
    ) -> tuple[int, int, int]:
        """Add rows to the row sums of a read (see `kernels`)."""

    @abstractmethod
    def rmatmul(self, Y: np.ndarray) -> np.ndarray:
        """Return AᵀY, in float64."""

    @abstractmethod
    def combine(self, S: sp.sparray) -> np.ndarray:
        """Return SA as a dense array, for a sparse S."""

    @abstractmethod
    def gram(self, D: np.ndarray) -> np.ndarray:
        """Return Aᵀdiag(D)A, exactly symmetric, in float64."""

    @abstractmethod
    def squares(self) -> np.ndarray:
        """Return the diagonal of Aᵀdiag(weight)A, without a temporary of the size of A."""

    @property
    def rows(self) -> int:
        """Rows in the block."""
        return int(self.A.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays occupy."""
        return self.A_nbytes + sum(part.nbytes for part in (self.b, self.w2, self.weight))

    def __sizeof__(self) -> int:
        # Dask accounts for a worker's memory with this.
        return 200 + self.nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self.index, self.A, self.b, self.w2, self.weight)

    def matmul(self, X: np.ndarray) -> np.ndarray:
        """Return AX."""
        return self.A @ X

    def take(self, rows: np.ndarray, weight: np.ndarray) -> Self:
        """Return the block of only these rows, with the given `weight`."""
        w2 = self.w2 if self.w2.size == 1 else self.w2[rows]
        return replace(self, A=self.A[rows], b=self.b.take(rows, axis=1), w2=w2, weight=weight)

    def part(self, rows: slice) -> Self:
        """Return the block of a slice of the rows."""
        w2, weight = (
            column if column.size == 1 else column[rows] for column in (self.w2, self.weight)
        )
        return replace(self, A=self.A[rows], b=self.b[:, rows], w2=w2, weight=weight)

    def of_target(self, target: int) -> Self:
        """Return the block with only one of the targets."""
        return replace(self, b=self.b[target : target + 1])


def _arrived(kind: type[Block], index: int, A: Any, *columns: np.ndarray) -> Block:
    """Return a block that was moved, with arrays of the kind that kernels are compiled for."""
    return kind(index, kind.convert(A), *map(usual, columns))


def usual(array: np.ndarray) -> np.ndarray:
    """Return the array aligned, and not marked as read-only.

    Arrays from a network may begin at any byte.  Arrays in shared memory or in a mapped file
    are read-only.  Kernels would be compiled again for both, although they write to neither.
    """
    array = np.require(array, requirements="A")
    return array if array.flags.writeable else np.asarray(_Unmarked(array))


class _Unmarked:
    """An array without its read-only mark, in the same memory."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        interface = self._array.__array_interface__
        return interface | {"data": (interface["data"][0], False)}


def storage_dtype(dtype: np.dtype, name: str = "A") -> np.dtype:
    """Return the float type that numbers of `dtype` are kept in, or raise.

    float16, float32 and integers of up to 16 bits are kept in float32, which is exact; all
    other types become float64.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {dtype}; real numbers are needed, so convert it first")
    narrow = 4 if dtype.kind == "f" else 2
    return np.dtype(np.float32 if dtype.itemsize <= narrow else np.float64)


def check_values(name: str, values: np.ndarray, place: str = "") -> None:
    """Raise ValueError if b or w is not finite, or if w is negative."""
    for wrong, what, advice in (
        (~np.isfinite(values), "NaN or infinity", "remove or replace such rows"),
        (values < 0 if name == "w" else None, "a negative value", "weights must be >= 0"),
    ):
        if wrong is not None and wrong.any():
            row, *columns = (int(indices[0]) for indices in np.nonzero(wrong))
            where = f"row {row}{place}" + "".join(f", column {column}" for column in columns)
            raise ValueError(f"{name} contains {what}: the first one is in {where}; {advice}")
