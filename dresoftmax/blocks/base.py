"""A block of rows: what a worker holds of A, b and w, and how it is made.

A `Block` is all that a kernel sees of the data.  Making one converts its part
of A, once, into the one layout per kind that the kernels are written for:
float32 or float64, C-contiguous or canonical CSR.  Arrays that are in that
layout already are kept as they are, without a copy.

Nothing here knows of Dask, of the objective or of the iteration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

__all__ = [
    "Block",
    "as_scipy",
    "check_values",
    "concatenate",
    "make_block",
    "make_vectors",
    "storage_dtype",
]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of the problem that lie together.

    Attributes
    ----------
    index : int
        Position of the block among all blocks; it seeds the block's randomness.
    A : ndarray of shape (rows, d) or csr_array
        float32 or float64.
    b : ndarray of shape (k, rows)
        The targets, one in a line.
    w2, weight : ndarray of shape (rows,) or (1,)
        Squared row weight w² of the quadratic term, and the weight with which the
        row counts in every sum (1 on the data, 1/π on a sample); length 1 stands
        for the same value in every row.
    """

    index: int
    A: Any
    b: np.ndarray
    w2: np.ndarray
    weight: np.ndarray

    @property
    def rows(self) -> int:
        """Rows in the block."""
        return int(self.A.shape[0])

    @property
    def sparse(self) -> bool:
        """Whether A is sparse."""
        return bool(sp.issparse(self.A))

    @property
    def entries(self) -> int:
        """Stored entries of A."""
        return int(self.A.nnz if self.sparse else self.A.size)

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays occupy."""
        parts = [self.b, self.w2, self.weight]
        if self.sparse:
            parts += [self.A.data, self.A.indices, self.A.indptr]
        else:
            parts.append(self.A)
        return sum(part.nbytes for part in parts)

    def __sizeof__(self) -> int:
        # Dask accounts for a worker's memory with this.
        return 200 + self.nbytes

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.index, self.A, self.b, self.w2, self.weight)

    def row(self, i: int) -> np.ndarray:
        """Row `i` of A, dense."""
        if self.sparse:
            return self.A[[i]].toarray().ravel()
        return self.A[i]

    def take(self, rows: np.ndarray, weight: np.ndarray) -> Block:
        """Return the block of these rows alone, counted with `weight`."""
        w2 = self.w2 if self.w2.size == 1 else self.w2[rows]
        return Block(self.index, self.A[rows], self.b.take(rows, axis=1), w2, weight)

    def with_A(self, A: Any) -> Block:
        """Return the block with these rows of A, which are converted where they have to be.

        Raises
        ------
        TypeError, ValueError
            If A is not real, or has another number of rows than b and w.
        """
        A = _usual(_native(self.index, A))
        if A.shape[0] != self.b.shape[1] or self.w2.size not in (1, A.shape[0]):
            raise ValueError(
                f"block {self.index} of A has {A.shape[0]} rows, but b and w have "
                f"{self.b.shape[1]} and {self.w2.size}"
            )
        return replace(self, A=A)

    def of_target(self, target: int) -> Block:
        """Return the block with one of the targets alone."""
        return replace(self, b=self.b[target : target + 1])


def _arrived(index: int, A: Any, *columns: np.ndarray) -> Block:
    """Return a block that was moved, its arrays of the one kind that kernels are compiled for."""
    return Block(index, _usual(A), *map(_usual, columns))


def _usual(array: Any) -> Any:
    """Return the array at an address that suits its type, and not marked as read-only.

    What comes over a network begins at any byte, and what lies in memory that processes
    share, or in a file that is mapped, is read-only; kernels would be compiled anew for
    both.  They write to neither.  The parts of a sparse array are exchanged in place.
    """
    if sp.issparse(array):
        array.data, array.indices, array.indptr = map(
            _usual, (array.data, array.indices, array.indptr)
        )
        return array
    array = np.require(array, requirements="A")
    return array if array.flags.writeable else np.asarray(_Unmarked(array))


class _Unmarked:
    """An array without its mark of being read-only; the memory stays that of the array."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        interface = self._array.__array_interface__
        return interface | {"data": (interface["data"][0], False)}


def storage_dtype(dtype: np.dtype, name: str = "A") -> np.dtype:
    """Return the float type that numbers of `dtype` are kept in, or raise.

    float32 holds float16 and integers of up to 16 bits exactly; all else
    becomes float64.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {dtype}; real numbers are needed, so convert it first")
    narrow = 4 if dtype.kind == "f" else 2
    return np.dtype(np.float32 if dtype.itemsize <= narrow else np.float64)


def check_values(name: str, values: np.ndarray, place: str = "") -> None:
    """Raise ValueError where b or w is not finite, or where w is negative."""
    for wrong, what, advice in (
        (~np.isfinite(values), "NaN or infinity", "remove or replace such rows"),
        (values < 0 if name == "w" else None, "a negative value", "weights must be >= 0"),
    ):
        if wrong is not None and wrong.any():
            row, *columns = (int(indices[0]) for indices in np.nonzero(wrong))
            where = f"row {row}{place}" + "".join(f", column {column}" for column in columns)
            raise ValueError(f"{name} contains {what}: the first one is in {where}; {advice}")


def as_scipy(A: Any) -> Any:
    """Return an array of the package `sparse` as one of SciPy, and others as they are."""
    if not hasattr(A, "to_scipy_sparse"):
        return A
    if A.fill_value != 0:
        raise ValueError(
            f"A is sparse with the fill value {A.fill_value}, and only zero can be left out; "
            "make it dense with A.todense()"
        )
    return A.to_scipy_sparse()


def make_block(index: int, A: Any, b: Any, w: Any) -> Block:
    """Return rows of A, b and w as a `Block`, converting what has to be.

    Raises
    ------
    TypeError, ValueError
        If A is not real, if b or w hold NaN, infinity or a negative weight, or
        if the numbers of rows differ.
    """
    return make_vectors(index, b, w).with_A(A)


def make_vectors(index: int, b: Any, w: Any) -> Block:
    """Return rows of b and w as a `Block` without columns, to which those of A may come.

    Raises
    ------
    ValueError
        If b or w hold NaN, infinity or a negative weight.
    """
    b = np.asarray(b)
    w = np.zeros(1) if w is None else np.atleast_1d(np.asarray(w, dtype=np.float64))
    place = f" of block {index}"
    check_values("b", b, place)
    check_values("w", w, place)
    lines = _usual(np.require(np.atleast_2d(b.T), np.float64, "C"))
    return Block(index, np.empty((len(b), 0)), lines, np.square(w), np.ones(1))


def _native(index: int, A: Any) -> Any:
    """Return rows of A in the layout of the kernels."""
    if isinstance(A, np.ma.MaskedArray):
        raise TypeError(
            f"block {index} of A is a masked array; fill its masked entries, or drop such rows"
        )
    if not (isinstance(A, np.ndarray) or sp.issparse(A) or hasattr(A, "to_scipy_sparse")):
        raise TypeError(
            f"block {index} of A is of type {type(A).__name__}; a dask array has blocks of NumPy "
            "or sparse arrays (tables may come in a list of delayed blocks)"
        )
    if A.ndim != 2:
        raise ValueError(f"block {index} of A has shape {A.shape}; two dimensions are needed")
    dtype = storage_dtype(A.dtype)
    A = as_scipy(A)
    if not sp.issparse(A):
        return np.require(A, dtype, "C")
    A = sp.csr_array(A, dtype=dtype)
    if not A.has_canonical_format:
        A = A.copy()  # duplicates are summed in place, and the input is not ours
        A.sum_duplicates()
    return A


def concatenate(blocks: Sequence[Block]) -> Block:
    """Stack blocks, in the order of their index, into one: sparse where all of them are."""
    blocks = sorted(blocks, key=lambda block: block.index)
    if len(blocks) == 1:
        return blocks[0]
    if all(block.sparse for block in blocks):
        A = sp.vstack([block.A for block in blocks], format="csr")
    else:
        A = np.concatenate([block.A.toarray() if block.sparse else block.A for block in blocks])

    def column(name: str) -> np.ndarray:
        parts = [np.broadcast_to(getattr(block, name), block.rows) for block in blocks]
        return np.concatenate(parts)

    b = np.concatenate([block.b for block in blocks], axis=1)
    return Block(0, A, b, column("w2"), column("weight"))
