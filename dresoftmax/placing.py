"""Data → row blocks on an engine, made where A lies.

Each block zips one chunk of A's rows with its parts of b and w, so that they
lie together for good.  b and w are cut to A's chunks; A is computed once.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from dresoftmax.blocks import make_block
from dresoftmax.checks import Data, check_lengths
from dresoftmax.engines import Engine
from dresoftmax.engines.threads import ThreadsEngine

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["place"]

# Bytes of an array in this process that travel to a worker in one task.
PIECE = 4 << 20


def place(data: Data, client: Client | None) -> Engine:
    """Return the engine that holds the rows of `data` as blocks.

    `client` says where; None stands for the current client where A is a dask
    array and there is one, else for this process.
    """
    in_memory = not isinstance(data.A, da.Array)
    if client is None and not in_memory:
        client = _current_client()
    if client is None:
        data = _measured(data)
        if in_memory:
            # Wherever b and w lie, they come here: A is not to travel.
            return ThreadsEngine([make_block(0, data.A, *dask.compute(data.b, data.w))])
        return ThreadsEngine(dask.compute(*_delayed_blocks(data, None), scheduler="threads"))
    from distributed import wait

    from dresoftmax.engines.distributed import DistributedEngine

    _check_fits(data.A, client)
    with client.as_current():
        data = _measured(data)
        blocks = client.compute(_delayed_blocks(data, client))
    # What was computed to measure it may only be let go of when the scheduler knows who
    # needs it, which it does not as soon as it has been asked.
    wait(blocks, return_when="FIRST_COMPLETED")
    return DistributedEngine(client, blocks)


def _current_client() -> Client | None:
    if "distributed" not in sys.modules:
        return None  # nobody can have made one
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        return None


def _measured(data: Data) -> Data:
    """Return the data with all lengths known; what has to be computed for that is kept."""
    unknown = {
        name: array
        for name, array in (("A", data.A), ("b", data.b), ("w", data.w))
        if isinstance(array, da.Array) and math.isnan(array.shape[0])
    }
    if not unknown:
        return data
    # Together, for they may be columns of one table.
    known = dict(zip(unknown, dask.persist(*unknown.values()), strict=True))
    for array in known.values():
        array.compute_chunk_sizes()
    data = replace(data, **known)
    check_lengths(data)
    return data


def _delayed_blocks(data: Data, client: Client | None) -> list[Any]:
    A = data.A
    if isinstance(A, da.Array):
        chunks = A.chunks[0]
    else:
        rows = max(1, PIECE // (8 * A.shape[1]))
        chunks = da.core.normalize_chunks((rows,), A.shape[:1])[0]
    parts = [
        [data.w] * len(chunks) if name == "w" and np.ndim(values) == 0
        else _pieces(values, chunks, client)
        for name, values in (("A", A), ("b", data.b), ("w", data.w))
    ]  # fmt: skip
    make = dask.delayed(make_block, pure=False)
    return [make(i, *part) for i, part in enumerate(zip(*parts, strict=True))]


def _pieces(values: Any, chunks: tuple[int, ...], client: Client | None) -> list[Any]:
    """Cut `values` by rows into `chunks`."""
    if isinstance(values, da.Array):
        return list(values.rechunk({0: chunks}).to_delayed().ravel())
    ends = np.cumsum(chunks)
    pieces = [values[end - rows : end] for rows, end in zip(chunks, ends, strict=True)]
    if client is None:
        return pieces
    # Each in a task of its own, not scattered: what is lost can then be had again.
    return [client.submit(_itself, piece, pure=False) for piece in pieces]


def _itself(values: Any) -> Any:
    return values


def _check_fits(A: Any, client: Client) -> None:
    """Raise where dense A is larger than the memory of all workers."""
    if not isinstance(A, da.Array) or math.isnan(A.nbytes) or not isinstance(A._meta, np.ndarray):
        return
    try:
        workers = client.scheduler_info(n_workers=-1)["workers"]
    except TypeError:  # older versions always return all workers
        workers = client.scheduler_info()["workers"]
    limits = [worker["memory_limit"] for worker in workers.values()]
    if limits and all(limits) and A.nbytes > sum(limits):
        raise ValueError(
            f"A has {A.nbytes / 2**30:.1f} GiB, but the {len(limits)} worker(s) have "
            f"{sum(limits) / 2**30:.1f} GiB together; add workers, or store A in float32"
        )
