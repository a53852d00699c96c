"""Rows that are loaded anew in each read: what is held of them between reads.

A `LazyBlock` stands where a `Block` would, on a worker or in this process, and
knows how to make that block: from a chunk of a dask array, which is computed
again each time, or from rows in memory whose layout is not that of the kernels,
which are copied each time.  What is loaded is let go of by whoever loaded it, so
that A is never held, nor copied, as a whole.  The block has the same index as if
it were held, and with it the same variates.

Nothing here decides what is held and what is loaded.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dresoftmax.blocks.base import Block, make_block, make_vectors, storage_dtype

__all__ = ["Chunk", "LazyBlock", "Rows", "is_native", "keep", "make_lazy"]


class Chunk:
    """Computes one chunk of a dask array in the thread that asks for it.

    Parameters
    ----------
    delayed : Delayed or bytes
        The graph of this chunk alone; pickled for a worker, so that neither Dask
        nor the scheduler looks inside.
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
        """Bytes that are held of it on a worker."""
        return len(self._delayed) if isinstance(self._delayed, bytes) else 0


class Rows:
    """Rows of an array that somebody else holds in memory."""

    __slots__ = ("_rows",)

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __call__(self) -> np.ndarray:
        """Return the rows; a block of them is made by copying."""
        return self._rows


@dataclass(frozen=True, slots=True)
class LazyBlock:
    """A block that is loaded when it is read.

    Attributes
    ----------
    index, rows, entries, nbytes : int
        Those of the block; the last two are estimates where A is sparse.
    room : int
        Most bytes that loaded blocks may take at once in this process.
    A : Chunk or Rows
    b : Chunk or ndarray
    w : Chunk, ndarray, float or None
        As `make_vectors` takes them, or where they come from.
    vectors : Block or None
        What `make_vectors` has made of them, where that is held in their place.
    """

    index: int
    rows: int
    entries: int
    nbytes: int
    room: int
    A: Chunk | Rows
    b: Any
    w: Any
    vectors: Block | None = None

    def load(self) -> Block:
        """Return the block.

        Raises
        ------
        OSError
            If its source fails, whatever that raises.
        """
        return self.without_A().with_A(self._loaded("A", self.A))

    def without_A(self) -> Block:
        """Return the block with its vectors, and no columns."""
        if self.vectors is not None:
            return self.vectors
        return make_vectors(self.index, self._loaded("b", self.b), self._loaded("w", self.w))

    def __sizeof__(self) -> int:
        # `Rows` are counted by whoever holds them.
        parts = (self.A, self.b, self.w, self.vectors)
        held = (part for part in parts if isinstance(part, Chunk | np.ndarray | Block))
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


def make_lazy(*fields: Any) -> LazyBlock:
    """Return a `LazyBlock` of these fields, b and w checked and converted if they are at hand."""
    deferred = LazyBlock(*fields)
    if isinstance(deferred.b, Chunk) or isinstance(deferred.w, Chunk):
        return deferred
    return replace(deferred, b=None, w=None, vectors=deferred.without_A())


def keep(room: int, index: int, A: Any, b: Any, w: Any) -> Block | LazyBlock:
    """Return rows that somebody else holds, too, without holding a copy of them.

    Other types of numbers, and other kinds of sparse arrays, are converted for all that.
    """
    if not isinstance(A, np.ndarray) or A.dtype != storage_dtype(A.dtype) or is_native(A):
        return make_block(index, A, b, w)
    nbytes = A.nbytes + 8 * (np.size(b) + (len(A) if np.ndim(w) else 0))
    return make_lazy(index, len(A), A.size, nbytes, room, Rows(A), b, w)


def is_native(A: np.ndarray) -> bool:
    """Whether the kernels read this array where it lies."""
    return bool(A.dtype == storage_dtype(A.dtype) and A.flags.c_contiguous and A.flags.aligned)
