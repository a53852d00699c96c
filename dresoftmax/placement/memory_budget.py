"""Whether A is held in memory or loaded in each read: its size, and the memory for it.

The size of a dense array of known length follows from its shape.  The size of any other array
is estimated from one chunk.

Only sizes are computed here; nothing is placed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.utils import format_bytes

from dresoftmax.blocks.base import storage_dtype
from dresoftmax.blocks.make import make_block
from dresoftmax.blocks.prefetch import COPIES
from dresoftmax.engines.memory import Memory
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.placement.dask_graph import lies_on_workers

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Size", "bytes_of_vectors", "check_chunks", "check_fits", "size_to_load"]


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a loaded row of A: bytes, and stored entries."""

    nbytes: float
    entries: float


def bytes_of_vectors(data: Dataset) -> int:
    """Return the bytes of b and w in a row."""
    return 8 * ((data.targets or 1) + (np.ndim(data.w) > 0))


def size_to_load(
    data: Dataset, memory: Memory, persist: bool | None, client: Client | None
) -> Size | None:
    """Return the size of a row if A, a dask array, is loaded in each read, or None if it is held.

    Sparse rows are assumed to be like those of the longest chunk, and chunks of unknown
    length to be like the first one that has rows.
    """
    A, vectors = data.A, bytes_of_vectors(data)
    if persist or (client is not None and lies_on_workers(A)):
        return None
    (n, d), itemsize = A.shape, storage_dtype(A.dtype).itemsize
    dense = isinstance(A._meta, np.ndarray)
    # A sparse array stores an index with each entry.
    most = Size(d * (itemsize if dense else itemsize + 4), d)
    if persist is None and n * (most.nbytes + vectors) <= memory.room:
        return None
    if dense and not math.isnan(n):
        return most
    chunks = range(A.numblocks[0]) if math.isnan(n) else [int(np.argmax(A.chunks[0]))]
    for chunk in chunks:
        measured = dask.delayed(_rows_and_size)(A.blocks[chunk].to_delayed().ravel()[0])
        rows, size = measured.compute() if client is None else client.compute(measured).result()
        if rows:
            break  # an empty chunk says nothing about the others
    n = rows * A.numblocks[0] if math.isnan(n) else n
    return None if persist is None and n * (size.nbytes + vectors) <= memory.room else size


def _rows_and_size(A: Any) -> tuple[int, Size]:
    block = make_block(0, A, np.zeros(A.shape[0]), None)
    rows = max(1, block.rows)
    return block.rows, Size((block.nbytes - block.b.nbytes) / rows, block.entries / rows)


def check_chunks(chunks: Sequence[int], nbytes: Sequence[int], room: int) -> None:
    """Raise if a chunk is too large to be loaded."""
    largest = int(np.argmax(nbytes))
    size, fits = nbytes[largest], max(room, 0) // COPIES
    if size <= fits:
        return
    rows = max(1, chunks[largest] * fits // (4 * size))
    raise ValueError(
        f"chunk {largest} of A has {format_bytes(size)} in {chunks[largest]} rows, which "
        f"is too large to be loaded: there is room for {format_bytes(fits)}; "
        f"pass A.rechunk({{0: {rows}}}), store A in smaller chunks, or give workers more memory"
    )


def check_fits(A: Any, memory: Memory, where: str, more: str) -> None:
    """Raise if dense A is larger than all memory.

    The message says `where` that memory is, as in "the workers have", and how to get `more`.
    """
    if not isinstance(getattr(A, "_meta", A), np.ndarray) or math.isnan(A.shape[0]):
        return
    nbytes = math.prod(A.shape) * storage_dtype(A.dtype).itemsize
    if memory.limits and nbytes > sum(memory.limits):
        raise ValueError(
            f"A has {format_bytes(nbytes)}, but {where} {format_bytes(sum(memory.limits))} "
            f"together; {more}, store A in float32, or pass a dask array of files with "
            "persist=None, which is loaded in each read"
        )
