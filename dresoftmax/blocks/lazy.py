"""Rows that are loaded again in each read, and what is held of them between reads.

A `LazyBlock` takes the place of a `Block`, on a worker or in this process, and knows how to
make it.  It computes a chunk of a dask array, or copies rows in memory whose layout is not
that of the kernels.  The caller of `load` releases the block after use, so that A is never
held or copied as a whole.  The block has the same index as if it were held, and so the same
random variates.

Nothing here decides what is held and what is loaded.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dresoftmax.blocks.base import Block, storage_dtype
from dresoftmax.blocks.dense import is_native
from dresoftmax.blocks.make import RowVectors, make_block, make_vectors

__all__ = ["Chunk", "LazyBlock", "LazySource", "Rows", "keep", "make_lazy"]


class Chunk:
    """Computes one chunk of a dask array in the calling thread.

    Parameters
    ----------
    delayed : Delayed or bytes
        The graph of only this chunk.  It is pickled for a worker, so that neither Dask
        nor the scheduler inspects it.
    """

    __slots__ = ("_delayed",)

    def __init__(self, delayed: Any) -> None:
        self._delayed = delayed

    def __call__(self) -> Any:
        """Load the rows."""
        delayed = self._delayed
        if isinstance(delayed, bytes):
            delayed = pickle.loads(delayed)
        return delayed.compute(scheduler="synchronous", optimize_graph=False)

    @property
    def nbytes(self) -> int:
        """Bytes that a worker holds for the chunk."""
        return len(self._delayed) if isinstance(self._delayed, bytes) else 0


class Rows:
    """Rows of an array that is held in memory elsewhere."""

    __slots__ = ("_rows",)

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __call__(self) -> np.ndarray:
        """Return the rows; making a block copies them."""
        return self._rows


@dataclass(frozen=True, slots=True)
class LazySource:
    """The source of a block's rows of A, and the size of the block.

    Attributes
    ----------
    rows, entries, nbytes : int
        Sizes of the block; the last two are estimates if A is sparse.
    room : int
        Maximum bytes of all loaded blocks in this process at a time.
    load : Chunk or Rows
        Loads the rows.
    """

    rows: int
    entries: int
    nbytes: int
    room: int
    load: Chunk | Rows


@dataclass(frozen=True, slots=True)
class LazyBlock:
    """A block that is loaded when it is read.

    Attributes
    ----------
    index : int
        Index of the block.
    A : LazySource
    b : Chunk or ndarray
    w : Chunk, ndarray, float or None
        As `make_vectors` takes them, or their sources.
    vectors : RowVectors or None
        The result of `make_vectors`, if it is held in place of `b` and `w`.
    """

    index: int
    A: LazySource
    b: Any
    w: Any
    vectors: RowVectors | None = None

    @property
    def rows(self) -> int:
        """Rows in the block."""
        return self.A.rows

    @property
    def entries(self) -> int:
        """Stored entries of A, an estimate if A is sparse."""
        return self.A.entries

    @property
    def nbytes(self) -> int:
        """Bytes of the block when it is loaded, an estimate if A is sparse."""
        return self.A.nbytes

    def load(self) -> Block:
        """Return the block.

        Raises
        ------
        OSError
            If a source fails, whatever error it raises.
        """
        return self.without_A().with_A(self._loaded("A", self.A.load))

    def without_A(self) -> RowVectors:
        """Return b and w of the block."""
        if self.vectors is not None:
            return self.vectors
        return make_vectors(self.index, self._loaded("b", self.b), self._loaded("w", self.w))

    def __sizeof__(self) -> int:
        # `Rows` are counted by the owner of their array.
        parts = (self.A.load, self.b, self.w, self.vectors)
        held = (part for part in parts if isinstance(part, Chunk | np.ndarray | RowVectors))
        return 400 + sum(part.nbytes for part in held)

    def _loaded(self, name: str, part: Any) -> Any:
        if not isinstance(part, Chunk | Rows):
            return part
        try:
            return part()
        except Exception as error:
            raise OSError(
                f"block {self.index} of {name} could not be loaded from its source: "
                f"{type(error).__name__}: {error}"
            ) from error


def make_lazy(index: int, A: LazySource, b: Any, w: Any) -> LazyBlock:
    """Return a `LazyBlock`; b and w are checked and converted now if both are in memory."""
    lazy = LazyBlock(index, A, b, w)
    if isinstance(b, Chunk) or isinstance(w, Chunk):
        return lazy
    return replace(lazy, b=None, w=None, vectors=lazy.without_A())


def keep(room: int, index: int, A: Any, b: Any, w: Any) -> Block | LazyBlock:
    """Return a block of rows that are also held elsewhere, without holding a copy.

    Numbers of other types and sparse arrays of other formats are still converted.
    """
    if not isinstance(A, np.ndarray) or A.dtype != storage_dtype(A.dtype) or is_native(A):
        return make_block(index, A, b, w)
    nbytes = A.nbytes + 8 * (np.size(b) + (len(A) if np.ndim(w) else 0))
    return make_lazy(index, LazySource(len(A), A.size, nbytes, room, Rows(A)), b, w)
