"""Data → row blocks on an engine, made where A lies, or loaded there in each read.

Each block zips one chunk of A's rows with its parts of b and w, so that they
lie together for good.  b and w are cut to A's chunks.  Where A fits into the memory
it is computed once; else what is held of it is how to load it.
"""

from __future__ import annotations

import math
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.utils import format_bytes

from dresoftmax.blocks.base import Block, make_block, storage_dtype
from dresoftmax.blocks.lazy import LazyBlock, Rows, is_native, keep, make_lazy
from dresoftmax.engines.base import Engine
from dresoftmax.engines.memory import Memory, memory_here, memory_of
from dresoftmax.engines.threads import ThreadsEngine
from dresoftmax.inputs.arguments import Dataset, check_client, check_lengths
from dresoftmax.placement.dask_graph import check_kept, chunk_sources, is_persisted, lies_on_workers
from dresoftmax.placement.memory_budget import (
    Size,
    bytes_of_vectors,
    check_chunks,
    check_fits,
    size_to_load,
)

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "chunks_to_send",
    "client_of",
    "cut",
    "measured",
    "parts_to_load",
    "pieces_of",
    "place",
    "vectors_of",
]

# Bytes of an array in this process that travel to a worker in one task.
PIECE = 4 << 20
# Bytes of rows in memory that are copied at a time into the kernels' layout.
PANEL = 16 << 20
# Part of the memory that b and w may take where A is loaded in each read; larger ones
# are loaded with it.
VECTORS = 0.15


def client_of(data: Dataset, client: Client | None) -> Client | None:
    """Return the client of the workers that are to hold A, or None for this process.

    That is `client`, else the current client where A is a dask array and there is one.
    """
    if client is None and isinstance(data.A, da.Array):
        client = _current_client()
        check_client(client)
    return client


def place(data: Dataset, client: Client | None, persist: bool | None = None) -> Engine:
    """Return the engine that holds the rows of `data` as blocks.

    `client` says on whose workers; None stands for this process.  `persist` says whether
    A is held in memory; None stands for where it fits.

    Raises
    ------
    ValueError
        If A is larger than the memory and has to be held, or its chunks cannot be
        loaded one by one, or are too large for it.
    """
    lazy = isinstance(data.A, da.Array)
    if client is None and not lazy:
        return ThreadsEngine(_blocks_here(measured(data), persist))
    if persist is False and not lazy:
        raise ValueError(
            "persist=False needs rows that workers can load in each read, but A lies in this "
            "process; pass a dask array of files, or leave client out"
        )
    if client is None:
        memory = memory_here()
        size = size_to_load(data, memory, persist, None)
        blocks = _blocks(measured(data, A_too=size is None), size, memory, None)
        return ThreadsEngine(dask.compute(*blocks, scheduler="threads"))
    from dresoftmax.engines.dask import DaskEngine

    with client.as_current():
        memory = memory_of(client)
        size = size_to_load(data, memory, persist, client) if lazy else None
        if size is None:
            check_fits(
                data.A, memory, f"the {len(memory.limits)} worker(s) have", more="add workers"
            )
    return DaskEngine(client, partial(_computed, data, size, memory, client))


def _blocks(data: Dataset, size: Size | None, memory: Memory, client: Client | None) -> list[Any]:
    """Return a delayed block of each chunk, which is loaded in each read where it has a `size`."""
    if size is None:
        return _held(data, memory, client)
    return _zip(make_lazy, *parts_to_load(data, size, memory, client, pickled=client is not None))


def _computed(data: Dataset, size: Size | None, memory: Memory, client: Client) -> Sequence[Future]:
    """Have the blocks computed by the workers."""
    from distributed import wait

    for name, array in (("A", data.A), ("b", data.b), ("w", data.w)):
        check_kept(name, array)
    known = measured(data, A_too=size is None)
    blocks = _blocks(known, size, memory, client)
    futures = client.compute(blocks)
    # What was computed to measure it may only be let go of, with `known` (a graph has but its
    # names), when the scheduler knows who needs it, which is not as soon as it is asked.
    wait(futures, return_when="FIRST_COMPLETED")
    return futures


def _current_client() -> Client | None:
    if "distributed" not in sys.modules:
        return None  # nobody can have made one
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def measured(data: Dataset, *, A_too: bool = True) -> Dataset:
    """Return the data with all lengths known.

    What has to be computed for that is kept, but for A where it is not to be held.
    """
    unknown = {
        name: array
        for name, array in (("A", data.A), ("b", data.b), ("w", data.w))
        if isinstance(array, da.Array) and math.isnan(array.shape[0])
    }
    if not unknown:
        return data
    # It would learn its sizes, and is not ours.
    loaded = {} if A_too or "A" not in unknown else {"A": unknown.pop("A").copy()}
    # Together, for they may be columns of one table.
    known = loaded | dict(zip(unknown, dask.persist(*unknown.values()), strict=True))
    for array in known.values():
        array.compute_chunk_sizes()
    data = replace(data, **known)
    check_lengths(data)
    return data


# --- arrays in this process --------------------------------------------------------


def _blocks_here(data: Dataset, persist: bool | None) -> Sequence[Block | LazyBlock]:
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
            make_lazy(
                index, len(panel), panel.size, panel.size * dtype.itemsize, sys.maxsize,
                Rows(panel), b[part], w[part] if np.ndim(w) else w,
            )
        )  # fmt: skip
    return blocks


# --- chunks of dask arrays, and pieces for a cluster -------------------------------


def _held(data: Dataset, memory: Memory, client: Client | None) -> list[Any]:
    """Return the blocks of A that are made once, and held."""
    A = data.A
    make: Any = make_block
    if isinstance(A, da.Array):
        chunks = A.chunks[0]
        if client is not None and is_persisted(A):
            make = partial(keep, memory.least)
    else:
        chunks = chunks_to_send(A)
    return _zip(make, pieces_of(A, chunks, client), *vectors_of(data, chunks, client))


def parts_to_load(
    data: Dataset, size: Size, memory: Memory, client: Client | None, *, pickled: bool
) -> tuple[Sequence[Any], ...]:
    """Return the arguments of `make_lazy` for all chunks of A, without their numbers."""
    chunks, vectors = data.A.chunks[0], bytes_of_vectors(data)
    held = vectors * sum(chunks)
    loaded = held > VECTORS * memory.room
    room = memory.least - (0 if loaded else held // max(1, len(memory.rooms)))
    nbytes = [round(rows * (size.nbytes + vectors)) for rows in chunks]
    check_chunks(chunks, nbytes, room)
    sources = chunk_sources("A", data.A, pickled=pickled)
    carried = sum(source.nbytes for source in sources)
    if carried > VECTORS * memory.room:
        raise ValueError(
            f"the graph of A carries {format_bytes(carried)} of data, which does not fit into "
            "the memory of the workers; pass an array whose chunks are read from files"
        )
    entries = [round(rows * size.entries) for rows in chunks]
    parts = vectors_of(data, chunks, client, loaded)
    return chunks, entries, nbytes, [room] * len(chunks), sources, *parts


def chunks_to_send(A: Any) -> tuple[int, ...]:
    """Return the numbers of rows in which an array of this process travels."""
    rows = max(1, PIECE // (8 * A.shape[1]))
    return da.core.normalize_chunks((rows,), A.shape[:1])[0]


def _zip(make: Any, *parts: Sequence[Any]) -> list[Any]:
    """Return a delayed block of each chunk's parts."""
    make = dask.delayed(make, pure=False)
    name = f"dresoftmax-block-{uuid.uuid4().hex}"
    each = enumerate(zip(*parts, strict=True))
    return [make(i, *part, dask_key_name=f"{name}-{i}") for i, part in each]


def vectors_of(
    data: Dataset, chunks: tuple[int, ...], client: Client | None, loaded: bool = False
) -> list[list[Any]]:
    """Cut b and w into `chunks`; `loaded` has them loaded with A where they can be."""
    parts = []
    for name, values in (("b", data.b), ("w", data.w)):
        if not np.ndim(values):
            parts.append([values] * len(chunks))
        elif loaded and isinstance(values, da.Array) and not lies_on_workers(values):
            parts.append(chunk_sources(name, cut(values, chunks), pickled=client is not None))
        else:
            parts.append(pieces_of(values, chunks, client))
    return parts


def pieces_of(values: Any, chunks: tuple[int, ...], client: Client | None) -> list[Any]:
    """Cut `values` by rows into `chunks`."""
    if isinstance(values, da.Array):
        return list(cut(values, chunks).to_delayed().ravel())
    ends = np.cumsum(chunks)
    pieces = [values[end - rows : end] for rows, end in zip(chunks, ends, strict=True)]
    if client is None:
        return pieces
    # Each in a task of its own, not scattered: what is lost can then be had again.
    name = f"dresoftmax-rows-{uuid.uuid4().hex}"
    return [client.submit(_itself, piece, key=f"{name}-{i}") for i, piece in enumerate(pieces)]


def cut(array: da.Array, chunks: tuple[int, ...]) -> da.Array:
    """Return a dask array with these chunks of rows, and all columns in each."""
    return array.rechunk({0: chunks} | dict.fromkeys(range(1, array.ndim), -1))


def _itself(values: Any) -> Any:
    return values
