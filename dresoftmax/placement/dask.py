"""Data → blocks of rows on the workers of a Dask cluster.

Each block joins one chunk of A's rows with its parts of b and w, so that they stay together.
If A fits into the memory of the workers, it is computed once; else the workers hold only its
sources.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da

from dresoftmax.blocks.lazy import keep, make_lazy
from dresoftmax.blocks.make import make_block
from dresoftmax.engines.base import Engine
from dresoftmax.engines.memory import Memory, memory_of
from dresoftmax.inputs.arguments import check_client
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.placement.chunks import (
    chunks_to_send,
    delayed_blocks,
    measured,
    pieces_of,
    sources_to_load,
    vectors_of,
)
from dresoftmax.placement.dask_graph import check_kept, is_persisted
from dresoftmax.placement.memory_budget import Size, check_fits, size_to_load

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["client_of", "place_on_workers"]


def client_of(data: Dataset, client: Client | None) -> Client | None:
    """Return the client whose workers will hold A, or None for this process.

    The default is the current client, if there is one and A is a dask array.
    """
    if client is None and isinstance(data.A, da.Array):
        client = _current_client()
        check_client(client)
    return client


def place_on_workers(data: Dataset, client: Client, persist: bool | None) -> Engine:
    """Return the engine that holds the rows of `data` on the workers of `client`.

    `persist` says whether A is held in memory; None holds it if it fits.

    Raises
    ------
    ValueError
        If A has to be held and is larger than the memory, or if its chunks cannot be loaded
        one by one or are too large.
    """
    from dresoftmax.engines.dask import DaskEngine

    lazy = isinstance(data.A, da.Array)
    if persist is False and not lazy:
        raise ValueError(
            "persist=False needs rows that workers can load in each read, but A lies in this "
            "process; pass a dask array of files, or leave client out"
        )
    with client.as_current():
        memory = memory_of(client)
        size = size_to_load(data, memory, persist, client) if lazy else None
        if size is None:
            check_fits(
                data.A, memory, f"the {len(memory.limits)} worker(s) have", more="add workers"
            )
    return DaskEngine(client, partial(_computed, data, size, memory, client))


def _computed(data: Dataset, size: Size | None, memory: Memory, client: Client) -> Sequence[Future]:
    """Submit the blocks to the workers, and return their futures."""
    from distributed import wait

    for name, array in (("A", data.A), ("b", data.b), ("w", data.w)):
        check_kept(name, array)
    known = measured(data, A_too=size is None)
    if size is None:
        blocks = _held(known, memory, client)
    else:
        sources, vectors = sources_to_load(known, size, memory, client, pickled=True)
        blocks = delayed_blocks(make_lazy, sources, *vectors)
    futures = client.compute(blocks)
    # Only `known` holds what was computed to measure the data; the graph of the blocks has just
    # its keys.  So keep `known` until the scheduler has received that graph.
    wait(futures, return_when="FIRST_COMPLETED")
    return futures


def _held(data: Dataset, memory: Memory, client: Client) -> list[Any]:
    """Return the delayed blocks, which are made once and held."""
    A = data.A
    make: Any = make_block
    if isinstance(A, da.Array):
        chunks = A.chunks[0]
        if is_persisted(A):
            make = partial(keep, memory.least)
    else:
        chunks = chunks_to_send(A)
    return delayed_blocks(make, pieces_of(A, chunks, client), *vectors_of(data, chunks, client))


def _current_client() -> Client | None:
    if "distributed" not in sys.modules:
        return None  # so there is no client
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None
