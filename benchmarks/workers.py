"""What the benchmarks of a cluster share: workers of one thread, rows, clocks.

Rows are made by the workers, each chunk from its own seed, so that they need not
travel, and the client never holds them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from rich.console import Console
from rich.table import Table

import dresoftmax
from dresoftmax.blocks.base import Block
from dresoftmax.engines.base import Engine
from dresoftmax.inputs.dataset import check_dataset
from dresoftmax.model.units import UNITS
from dresoftmax.placement.dask import place_on_workers
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query, Sketch

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
VERSIONS = {name: version(name) for name in ("dask", "distributed", "numpy")}
CONTEXT = {"cores": CORES, "dresoftmax": dresoftmax.__version__, **VERSIONS}


@contextmanager
def cluster(workers: int) -> Iterator[Client]:
    """Start worker processes of one thread each."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,  # it warns that many processes are slow to end
        ) as started,
        Client(started) as client,
    ):
        yield client


def normal_rows(rows: int, d: int, dtype: type, seed: int) -> np.ndarray:
    """Return normal rows in pairs (a, −a): their columns have mean zero, so that α > 0."""
    out = np.zeros((rows, d), dtype)
    half = rows // 2
    np.random.default_rng(seed).standard_normal(out=out[:half], dtype=dtype)
    np.negative(out[:half], out=out[half : 2 * half])
    return out


def _chunk(block_info: Any = None, *, make: Callable[[int, int], np.ndarray]) -> np.ndarray:
    info = block_info[None]
    return make(info["chunk-shape"][0], info["chunk-location"][0])


def chunked(make: Callable[[int, int], np.ndarray], shape: Sequence[int], chunk: int) -> da.Array:
    """Return a dask array whose chunks are ``make(rows, number of the chunk)``."""
    rows = da.core.normalize_chunks((chunk,), (shape[0],))[0]
    chunks = (rows, *((size,) for size in shape[1:]))
    return da.map_blocks(partial(_chunk, make=make), chunks=chunks, meta=make(0, 0))


def matrix(n: int, d: int, chunks: int, dtype: type = np.float64) -> da.Array:
    """Return n×d normal numbers in so many chunks, not computed yet."""
    return chunked(partial(_matrix_chunk, d, dtype), (n, d), -(-n // chunks))


def _matrix_chunk(d: int, dtype: type, rows: int, number: int) -> np.ndarray:
    return normal_rows(rows, d, dtype, number)


def target(A: da.Array, noise: float) -> da.Array:
    """Return f(x), for an x with Var(Ax) = 1, with noise in each entry; not computed yet."""
    d, dtype = A.shape[1], A.dtype.type
    u = chunked(partial(_target_chunk, d, dtype, noise), A.shape[:1], A.chunks[0][0])
    return u / u.sum()


def _target_chunk(d: int, dtype: type, noise: float, rows: int, number: int) -> np.ndarray:
    x = np.where(np.arange(d) % 2, -1.0, 1.0) / np.sqrt(d)
    z = (normal_rows(rows, d, dtype, number) @ x.astype(dtype)).astype(np.float64)
    u = np.exp(z) + z
    return np.abs(u * (1.0 + noise * np.random.default_rng([1, number]).standard_normal(rows)))


@contextmanager
def placed(client: Client, A: da.Array) -> Iterator[Engine]:
    """Have the rows of `A` on the cluster, with an even target."""
    b = da.full(A.shape[0], 1.0 / A.shape[0], chunks=A.chunks[0])
    with closing(place_on_workers(check_dataset(A, b, None), client, None)) as engine:
        yield engine


def read(d: int, kind: str) -> Callable[[Sequence[Block], int], Any]:
    """Return the task that reads rows at x = 0, with this kind of Hessian."""
    query = Query(np.zeros((1, d)), np.zeros(1), np.zeros(1), UNITS["exp+linear"], Sketch(kind))
    return partial(evaluate_blocks, [query])


class Clocked:
    """The sum that a task returns, with the seconds of the slowest task."""

    def __init__(self, total: Any, seconds: float) -> None:
        self.total, self.seconds = total, seconds

    def __add__(self, other: Clocked) -> Clocked:
        return Clocked(self.total + other.total, max(self.seconds, other.seconds))


def clocked(task: Callable[..., Any], blocks: Sequence[Block], threads: int) -> Clocked:
    began = time.perf_counter()
    total = task(blocks, threads)
    return Clocked(total, time.perf_counter() - began)


def seconds_to_read(
    engine: Engine, task: Callable[..., Any], repeats: int, pick: Callable[..., Any] = np.median
) -> tuple[float, float, float]:
    """Return a reduction's seconds, those in its slowest task, and the rest: the medians."""
    spent = []
    for _ in range(repeats + 2):
        began = time.perf_counter()
        inside = engine.reduce(partial(clocked, task)).seconds
        seconds = time.perf_counter() - began
        spent.append((seconds, inside, seconds - inside))
    seconds, inside, rest = pick(spent[2:], axis=0)  # the first ones warm up
    return float(seconds), float(inside), float(rest)


def print_table(title: str, rows: Sequence[dict[str, object]]) -> None:
    """Print rows that need not have the same columns, without their context."""
    columns = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in CONTEXT]
    table = Table(*columns, title=title, box=None)
    for row in rows:
        values = (row.get(column, "") for column in columns)
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values))
    Console(width=160).print(table)
