"""Data → row blocks on an engine, made where A lies, or loaded there in each read.

Each block zips one chunk of A's rows with its parts of b and w, so that they
lie together for good.  b and w are cut to A's chunks.  Where A fits into the memory
it is computed once; else what is held of it is how to load it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.utils import format_bytes

from dresoftmax.blocks import Block, make_block, storage_dtype
from dresoftmax.checks import Data
from dresoftmax.deferred import Deferred, Rows, defer, is_native, keep
from dresoftmax.engines import Engine
from dresoftmax.engines.threads import ThreadsEngine
from dresoftmax.loading import COPIES
from dresoftmax.memory import Memory, memory_here, memory_of
from dresoftmax.sources import chunk_sources, is_persisted, lies_on_workers

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["place"]

# Bytes of an array in this process that travel to a worker in one task.
PIECE = 4 << 20
# Bytes of rows in memory that are copied at a time into the kernels' layout.
PANEL = 16 << 20
# Part of the memory that b and w may take where A is loaded in each read; larger ones
# are loaded with it.
VECTORS = 0.15


def place(data: Data, client: Client | None, persist: bool | None = None) -> Engine:
    """Return the engine that holds the rows of `data` as blocks.

    `client` says where; None stands for the current client where A is a dask
    array and there is one, else for this process.  `persist` says whether A is held
    in memory; None stands for where it fits.

    Raises
    ------
    ValueError
        If A is larger than the memory and has to be held, or its chunks cannot be
        loaded one by one, or are too large for it.
    """
    lazy = isinstance(data.A, da.Array)
    if client is None and lazy:
        client = _current_client()
    if not lazy:
        if client is None:
            return ThreadsEngine(_blocks_here(data, persist))
        if persist is False:
            raise ValueError(
                "persist=False needs rows that workers can load in each read, but A lies in this "
                "process; pass a dask array of files, or leave client out"
            )
    blocks = _delayed_blocks(data, client, persist)
    if client is None:
        return ThreadsEngine(dask.compute(*blocks, scheduler="threads"))
    from dresoftmax.engines.distributed import DistributedEngine

    return DistributedEngine(client, client.compute(blocks))


def _current_client() -> Client | None:
    if "distributed" not in sys.modules:
        return None  # nobody can have made one
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


# --- arrays in this process --------------------------------------------------------


def _blocks_here(data: Data, persist: bool | None) -> Sequence[Block | Deferred]:
    """Keep an array of the kernels' layout as it is, and convert or copy others.

    A float32 or float64 array of another layout is copied by panels in each read, and so
    is one of another type where the memory does not hold all of it converted.
    """
    A = data.A
    # Wherever b and w lie, they come here: A is not to travel.
    b, w = dask.compute(data.b, data.w)
    if persist or not isinstance(A, np.ndarray) or is_native(A) or A.nbytes <= PANEL:
        return [make_block(0, A, b, w)]
    dtype = storage_dtype(A.dtype)
    nbytes = A.size * dtype.itemsize
    if persist is None and A.dtype != dtype and nbytes <= memory_here().room:
        return [make_block(0, A, b, w)]
    rows = max(1, PANEL // (dtype.itemsize * A.shape[1]))
    blocks = []
    for index, start in enumerate(range(0, len(A), rows)):
        part = slice(start, start + rows)
        panel = A[part]
        blocks.append(
            defer(
                index, len(panel), panel.size, panel.size * dtype.itemsize, sys.maxsize,
                Rows(panel), b[part], w[part] if np.ndim(w) else w,
            )
        )  # fmt: skip
    return blocks


# --- chunks of dask arrays, and pieces for a cluster -------------------------------


@dataclass(frozen=True, slots=True)
class Size:
    """What a row of A takes when it is loaded: bytes, and stored entries."""

    nbytes: float
    entries: float


def _delayed_blocks(data: Data, client: Client | None, persist: bool | None) -> list[Any]:
    A = data.A
    memory = memory_here() if client is None else memory_of(client)
    if not isinstance(A, da.Array):
        _check_fits(A, memory)
        rows = max(1, PIECE // (8 * A.shape[1]))
        chunks = da.core.normalize_chunks((rows,), A.shape[:1])[0]
        parts = _pieces("A", A, chunks, client)
        return _zip(make_block, parts, *_vectors(data, chunks, client))
    if A.numblocks[1] > 1:
        A = A.rechunk({1: -1})
    vectors = 8 * ((data.targets or 1) + (np.ndim(data.w) > 0))
    there = client is not None and lies_on_workers(A)
    size = None if persist or there else _size_to_load(A, vectors, memory, persist, client)
    if size is not None:
        return _deferred(data, A, size, vectors, memory, client)
    if client is not None:
        _check_fits(A, memory)
    make: Any = partial(keep, memory.least) if there and is_persisted(A) else make_block
    if math.isnan(A.shape[0]):
        A = A.persist()
        A.compute_chunk_sizes()
    parts = _pieces("A", A, A.chunks[0], client)
    return _zip(make, parts, *_vectors(data, A.chunks[0], client))


def _size_to_load(
    A: da.Array, vectors: int, memory: Memory, persist: bool | None, client: Client | None
) -> Size | None:
    """Return the size of rows where A is to be loaded in each read, else None.

    Sparse rows are taken to be like those of the longest chunk, and chunks of unknown
    length to be like the first.
    """
    (n, d), itemsize = A.shape, storage_dtype(A.dtype).itemsize
    dense = isinstance(A._meta, np.ndarray)
    # A sparse array has an index with each entry.
    most = Size(d * (itemsize if dense else itemsize + 4), d)
    if persist is None and n * (most.nbytes + vectors) <= memory.room:
        return None
    if dense and not math.isnan(n):
        return most
    longest = 0 if math.isnan(n) else int(np.argmax(A.chunks[0]))
    measured = dask.delayed(_rows_and_size)(A.blocks[longest].to_delayed().ravel()[0])
    rows, size = measured.compute() if client is None else client.compute(measured).result()
    n = rows * A.numblocks[0] if math.isnan(n) else n
    return None if persist is None and n * (size.nbytes + vectors) <= memory.room else size


def _rows_and_size(A: Any) -> tuple[int, Size]:
    block = make_block(0, A, np.zeros(A.shape[0]), None)
    rows = max(1, block.rows)
    return block.rows, Size((block.nbytes - block.b.nbytes) / rows, block.entries / rows)


def _deferred(
    data: Data, A: da.Array, size: Size, vectors: int, memory: Memory, client: Client | None
) -> list[Any]:
    """Return what loads the chunks of A, with the parts of b and w that are held."""
    if math.isnan(A.shape[0]):
        A = A.copy()  # which would learn its sizes, and is not ours
        A.compute_chunk_sizes()
    chunks = A.chunks[0]
    held = vectors * sum(chunks)
    loaded = held > VECTORS * memory.room
    room = memory.least - (0 if loaded else held // max(1, len(memory.rooms)))
    nbytes = [round(rows * (size.nbytes + vectors)) for rows in chunks]
    _check_chunks(chunks, nbytes, room)
    sources = chunk_sources("A", A, client)
    carried = sum(source.nbytes for source in sources)
    if carried > VECTORS * memory.room:
        raise ValueError(
            f"the graph of A carries {format_bytes(carried)} of data, which does not fit into "
            "the memory of the workers; pass an array whose chunks are read from files"
        )
    entries = [round(rows * size.entries) for rows in chunks]
    return _zip(
        defer, chunks, entries, nbytes, [room] * len(chunks), sources,
        *_vectors(data, chunks, client, loaded),
    )  # fmt: skip


def _zip(make: Any, *parts: Sequence[Any]) -> list[Any]:
    """Return a delayed block of each chunk's parts."""
    make = dask.delayed(make, pure=False)
    return [make(i, *part) for i, part in enumerate(zip(*parts, strict=True))]


def _vectors(
    data: Data, chunks: tuple[int, ...], client: Client | None, loaded: bool = False
) -> list[list[Any]]:
    """Cut b and w into `chunks`; `loaded` has them loaded with A where they can be."""
    return [
        _pieces(name, values, chunks, client, loaded) if np.ndim(values) else [values] * len(chunks)
        for name, values in (("b", data.b), ("w", data.w))
    ]


def _pieces(
    name: str, values: Any, chunks: tuple[int, ...], client: Client | None, loaded: bool = False
) -> list[Any]:
    """Cut `values` by rows into `chunks`."""
    if isinstance(values, da.Array):
        if math.isnan(values.shape[0]):
            values = values.persist()
            values.compute_chunk_sizes()
        if values.shape[0] != sum(chunks):
            raise ValueError(
                f"{name} has length {values.shape[0]}, but A has {sum(chunks)} rows; pass a value "
                "for each row of A"
            )
        values = values.rechunk({0: chunks} | dict.fromkeys(range(1, values.ndim), -1))
        if loaded and not (client is not None and lies_on_workers(values)):
            return chunk_sources(name, values, client)
        return list(values.to_delayed().ravel())
    ends = np.cumsum(chunks)
    pieces = [values[end - rows : end] for rows, end in zip(chunks, ends, strict=True)]
    if client is None:
        return pieces
    # Each in a task of its own, not scattered: what is lost can then be had again.
    return [client.submit(_itself, piece, pure=False) for piece in pieces]


def _itself(values: Any) -> Any:
    return values


def _check_chunks(chunks: Sequence[int], nbytes: Sequence[int], room: int) -> None:
    """Raise where a chunk is too large to be loaded."""
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


def _check_fits(A: Any, memory: Memory) -> None:
    """Raise where dense A is larger than the memory of all workers."""
    if not isinstance(getattr(A, "_meta", A), np.ndarray) or math.isnan(A.size):
        return
    nbytes = A.size * storage_dtype(A.dtype).itemsize
    if memory.limits and nbytes > sum(memory.limits):
        raise ValueError(
            f"A has {format_bytes(nbytes)}, but the {len(memory.limits)} worker(s) have "
            f"{format_bytes(sum(memory.limits))} together; add workers, store A in float32, or "
            "pass a dask array of files with persist=None, which is loaded in each read"
        )
