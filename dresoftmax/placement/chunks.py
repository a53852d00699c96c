"""A, b and w cut alike, into the pieces that blocks are made of on any engine."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.utils import format_bytes

from dresoftmax.blocks.lazy import LazySource
from dresoftmax.engines.memory import Memory
from dresoftmax.inputs.dataset import Dataset, check_lengths
from dresoftmax.placement.dask_graph import chunk_sources, lies_on_workers
from dresoftmax.placement.memory_budget import Size, bytes_of_vectors, check_chunks

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "VECTORS",
    "chunks_to_send",
    "cut",
    "delayed_blocks",
    "measured",
    "pieces_of",
    "sources_to_load",
    "vectors_of",
]

# Bytes of an array in this process that are sent to a worker in one task.
PIECE = 4 << 20
# Part of the memory that b and w may take if A is loaded in each read; if they are larger,
# they are loaded with A.
VECTORS = 0.15


def measured(data: Dataset, *, A_too: bool = True) -> Dataset:
    """Return the data with all lengths known.

    Arrays that are computed for this are kept, except A if it will not be held (`A_too`).
    """
    unknown = {
        name: array
        for name, array in (("A", data.A), ("b", data.b), ("w", data.w))
        if isinstance(array, da.Array) and math.isnan(array.shape[0])
    }
    if not unknown:
        return data
    # A copy, since `compute_chunk_sizes` would change the user's array.
    loaded = {} if A_too or "A" not in unknown else {"A": unknown.pop("A").copy()}
    # Computed together, since they may be columns of one table.
    known = loaded | dict(zip(unknown, dask.persist(*unknown.values()), strict=True))
    for array in known.values():
        array.compute_chunk_sizes()
    data = replace(data, **known)
    check_lengths(data)
    return data


def sources_to_load(
    data: Dataset, size: Size, memory: Memory, client: Client | None, *, pickled: bool
) -> tuple[list[LazySource], list[list[Any]]]:
    """Return the source of each chunk of A, and b and w cut into the same chunks."""
    chunks, vectors = data.A.chunks[0], bytes_of_vectors(data)
    held = vectors * sum(chunks)
    loaded = held > VECTORS * memory.room
    room = memory.least - (0 if loaded else held // max(1, len(memory.rooms)))
    nbytes = [round(rows * (size.nbytes + vectors)) for rows in chunks]
    check_chunks(chunks, nbytes, room)
    loads = chunk_sources("A", data.A, pickled=pickled)
    carried = sum(load.nbytes for load in loads)
    if carried > VECTORS * memory.room:
        raise ValueError(
            f"the graph of A carries {format_bytes(carried)} of data, which does not fit into "
            "the memory of the workers; pass an array whose chunks are read from files"
        )
    sources = [
        LazySource(rows, round(rows * size.entries), taken, room, load)
        for rows, taken, load in zip(chunks, nbytes, loads, strict=True)
    ]
    return sources, vectors_of(data, chunks, client, loaded)


def chunks_to_send(A: Any) -> tuple[int, ...]:
    """Return the numbers of rows in which an array in this process is sent to workers."""
    rows = max(1, PIECE // (8 * A.shape[1]))
    return da.core.normalize_chunks((rows,), A.shape[:1])[0]


def vectors_of(
    data: Dataset, chunks: tuple[int, ...], client: Client | None, loaded: bool = False
) -> list[list[Any]]:
    """Cut b and w into `chunks`; if `loaded`, they are loaded with A if possible."""
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
    # Each in a task of its own, not scattered, so that Dask can make lost pieces again.
    name = f"dresoftmax-rows-{uuid.uuid4().hex}"
    return [client.submit(_itself, piece, key=f"{name}-{i}") for i, piece in enumerate(pieces)]


def cut(array: da.Array, chunks: tuple[int, ...]) -> da.Array:
    """Return a dask array with these chunks of rows, and all columns in each."""
    return array.rechunk({0: chunks} | dict.fromkeys(range(1, array.ndim), -1))


def delayed_blocks(make: Any, A: Sequence[Any], b: Sequence[Any], w: Sequence[Any]) -> list[Any]:
    """Return a delayed ``make(index, A, b, w)`` for the rows of each chunk."""
    make = dask.delayed(make, pure=False)
    name = f"dresoftmax-block-{uuid.uuid4().hex}"
    each = enumerate(zip(A, b, w, strict=True))
    return [make(i, *part, dask_key_name=f"{name}-{i}") for i, part in each]


def _itself(values: Any) -> Any:
    return values
