"""Data → row blocks in Ray's object store.

Tasks make blocks from chunks of dask arrays, and from tables of Ray Datasets where these lie.
Arrays in this process are put into the store in pieces.  The pieces, and so the result, are
the same as on a Dask cluster.  b and w are small beside A: they are brought to this process
and cut.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import dask
import dask.array as da
import ray

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import Chunk, make_lazy
from dresoftmax.blocks.make import make_block
from dresoftmax.engines.memory import memory_of_ray
from dresoftmax.engines.ray import RayEngine, get, start
from dresoftmax.inputs.dataset import Dataset, check_lengths
from dresoftmax.inputs.ray_dataset import RayRows
from dresoftmax.placement.chunks import (
    chunks_to_send,
    pieces_of,
    sources_to_load,
    vectors_of,
)
from dresoftmax.placement.dask_graph import chunk_sources, lies_on_workers
from dresoftmax.placement.memory_budget import check_fits, size_to_load

__all__ = ["place_on_ray"]


def place_on_ray(data: Dataset, persist: bool | None = None) -> RayEngine:
    """Return the engine that holds the rows of `data` as blocks in Ray's object store.

    `persist` says whether A is held; None holds it if it fits.

    Raises
    ------
    ValueError
        If A has to be held and is larger than the object store, or if its chunks cannot be
        loaded one by one or lie on the workers of a Dask cluster.
    """
    start()
    lazy = isinstance(data.A, da.Array)
    if persist is False and not lazy:
        raise ValueError(
            "persist=False needs rows that tasks can load in each read, but A lies in "
            f"{'a Ray Dataset' if isinstance(data.A, RayRows) else 'this process'}; pass a dask "
            "array of files, or leave persist out"
        )
    if lazy and lies_on_workers(data.A):
        raise ValueError(
            "A lies on the workers of a Dask cluster, where Ray cannot reach it; solve it there "
            'with engine="auto", or pass an array that is not persisted'
        )
    b, w = dask.compute(data.b, data.w)
    data = replace(data, A=_measured(data.A) if lazy else data.A, b=b, w=w)
    check_lengths(data)
    store, tasks = memory_of_ray()
    size = size_to_load(data, store, persist, None) if lazy else None
    if size is not None:
        sources, vectors = sources_to_load(data, size, tasks, None, pickled=True)
        parts = _numbered(sources, *vectors)
        return RayEngine([ray.put(make_lazy(i, *part)) for i, part in parts])
    more = "add nodes, start Ray with a larger object_store_memory"
    check_fits(data.A, store, "Ray's object stores have", more)
    return RayEngine(_held(data))


def _measured(A: da.Array) -> da.Array:
    """Return a dask array with known chunk lengths, which tasks measure."""
    if not math.isnan(A.shape[0]):
        return A
    sources = chunk_sources("A", A, pickled=True)
    lengths = get([_length.remote(source) for source in sources])
    return da.Array(A.dask, A.name, (tuple(lengths), A.chunks[1]), dtype=A.dtype, meta=A._meta)


def _held(data: Dataset) -> list[Any]:
    """Return the blocks, which are made once and held."""
    A = data.A
    local = not isinstance(A, da.Array | RayRows)
    chunks = chunks_to_send(A) if local else A.chunks[0]
    vectors = vectors_of(data, chunks, None)
    if local:
        pieces = _numbered(pieces_of(A, chunks, None), *vectors)
        return [ray.put(make_block(i, *part)) for i, part in pieces]
    if isinstance(A, RayRows):
        like = ray.put(A.without_tables())
        return [_convert.remote(like, i, *part) for i, part in _numbered(A.tables, *vectors)]
    sources = chunk_sources("A", A, pickled=True)
    return [_load.remote(i, *part) for i, part in _numbered(sources, *vectors)]


def _numbered(*parts: Any) -> Any:
    return enumerate(zip(*parts, strict=True))


def _rows_of(source: Chunk) -> int:
    return int(source().shape[0])


def _block_of_chunk(index: int, source: Chunk, b: Any, w: Any) -> Block:
    return make_block(index, source(), b, w)


def _block_of_table(like: RayRows, index: int, table: Any, b: Any, w: Any) -> Block:
    return make_block(index, like.rows(index, table), b, w)


_length = ray.remote(_rows_of)
_load = ray.remote(_block_of_chunk)
_convert = ray.remote(_block_of_table)
