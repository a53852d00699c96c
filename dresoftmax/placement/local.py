"""Data → blocks of rows in this process.

An array in the kernels' layout is kept as it is.  A float32 or float64 array in another layout
is copied by panels in each read.  A dask array is computed once if it fits; else its chunks
are loaded in each read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import dask
import dask.array as da
import numpy as np

from dresoftmax.blocks.base import Block, storage_dtype
from dresoftmax.blocks.dense import is_native
from dresoftmax.blocks.lazy import LazyBlock, LazySource, Rows, make_lazy
from dresoftmax.blocks.make import make_block
from dresoftmax.engines.memory import memory_here
from dresoftmax.engines.threads import ThreadsEngine
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.placement.chunks import (
    delayed_blocks,
    measured,
    pieces_of,
    sources_to_load,
    vectors_of,
)
from dresoftmax.placement.memory_budget import size_to_load

__all__ = ["place_here"]

# Bytes of rows that are copied into the kernels' layout at a time.
PANEL = 16 << 20


def place_here(data: Dataset, persist: bool | None) -> ThreadsEngine:
    """Return the engine that holds the rows of `data` in this process.

    `persist` says whether A is held in memory; None holds it if it fits.

    Raises
    ------
    ValueError
        If the chunks of A cannot be loaded one by one, or are too large for the memory.
    """
    if not isinstance(data.A, da.Array):
        return ThreadsEngine(_blocks_of_array(measured(data), persist))
    memory = memory_here()
    size = size_to_load(data, memory, persist, None)
    data = measured(data, A_too=size is None)
    if size is None:
        chunks = data.A.chunks[0]
        parts = pieces_of(data.A, chunks, None), *vectors_of(data, chunks, None)
        blocks = delayed_blocks(make_block, *parts)
    else:
        sources, vectors = sources_to_load(data, size, memory, None, pickled=False)
        blocks = delayed_blocks(make_lazy, sources, *vectors)
    return ThreadsEngine(dask.compute(*blocks, scheduler="threads"))


def _blocks_of_array(data: Dataset, persist: bool | None) -> Sequence[Block | LazyBlock]:
    """Keep an array in the kernels' layout as it is, and convert or copy others.

    An array of another type is copied by panels only if all of it converted does not fit.
    """
    A = data.A
    # b and w are moved here from wherever they lie, since A must not be moved.
    b, w = dask.compute(data.b, data.w)
    if persist or not isinstance(A, np.ndarray) or is_native(A) or A.nbytes <= PANEL:
        return [make_block(0, A, b, w)]
    dtype = storage_dtype(A.dtype)
    nbytes = A.size * dtype.itemsize
    if persist is None and A.dtype != dtype and nbytes <= memory_here().room:
        return [make_block(0, A, b, w)]
    rows = max(1, PANEL // (dtype.itemsize * A.shape[1]))
    return [
        _panel(index, A, b, w, slice(start, start + rows), dtype)
        for index, start in enumerate(range(0, len(A), rows))
    ]


def _panel(index: int, A: np.ndarray, b: Any, w: Any, part: slice, dtype: np.dtype) -> LazyBlock:
    panel = A[part]
    nbytes = panel.size * dtype.itemsize
    source = LazySource(len(panel), panel.size, nbytes, sys.maxsize, Rows(panel))
    return make_lazy(index, source, b[part], w[part] if np.ndim(w) else w)
