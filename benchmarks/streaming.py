"""Data larger than memory: the time and the memory of reads that load every chunk.

    python benchmarks/run.py --only streaming [--full]

A Zarr store with the default codecs is written to a temporary folder: rows of the
packaged attention keys, drawn with noise, rounded to half precision and stored in float32.
Two workers of one thread and 1.5 GB each then take turns:

- plain: each chunk of A loaded once, a task for each, which returns its shape;
- solve: a whole solve.  Its records time the reads of all rows, each with the work of
  the driver before it.  `read_s` is their mean, and `each` has the ratio of each to a
  plain read: the first one takes the exact Hessian.  Of the 12 GB store, b is too
  large to be held, and is loaded as well.

Each load of a chunk leaves a file, so that `loads` counts how often each was loaded,
including the draw of the sample.  `worker_GB` is the most memory that a worker held.
"""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections import Counter
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster, wait
from growth import resident, start_peak
from measure import Row, seconds_of

import dresoftmax
from dresoftmax.datasets import load_attention
from dresoftmax.result import IterationRecord

D = 32
CHUNK_ROWS = 48 * 2**20 // (4 * D)
WORKERS, MEMORY = 2, 1_500_000_000
# Relative noise on the columns of A, and on b.
NOISE, B_NOISE = 0.2, 0.01
SHOWN = (
    "GB", "GB_stored", "chunks", "plain_s", "read_s", "ratio", "each", "reads", "loads",
    "data_passes", "status", "x_error", "worker_GB", "limit_GB", "spilled", "pauses", "seconds",
)  # fmt: skip


def measure(full: bool) -> list[Row]:
    """Return a row for each turn; `full` has a store of 12 GB."""
    chunks = 240 if full else 12
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            memory_limit=MEMORY,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        store = Path(folder)
        x = write(store, chunks, client)
        client.restart()  # memory for writing does not count
        return [take_turn(store, x, i, full, client) for i in range(2)]


def write(store: Path, chunks: int, client: Client) -> np.ndarray:
    """Write A and b, and return the x that b was made from."""
    keys = load_attention().keys.astype(np.float32)
    keys -= keys.mean(axis=0)
    x = np.random.default_rng(0).standard_normal(D)
    x /= np.std(keys @ x)
    A = zarr.create_array(
        store / "A.zarr", shape=(chunks * CHUNK_ROWS, D), chunks=(CHUNK_ROWS, D), dtype="float32"
    )
    b = zarr.create_array(
        store / "b.zarr", shape=A.shape[:1], chunks=(CHUNK_ROWS,), dtype="float64"
    )
    (shared,) = client.scatter([keys], broadcast=True)
    sums = client.map(partial(write_chunk, A, b, x), range(chunks), keys=shared, pure=False)
    total = sum(client.gather(sums))
    wait(client.map(partial(scale_chunk, b, total), range(chunks), pure=False))
    return x


def rows_of(chunk: int) -> slice:
    return slice(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)


def write_chunk(A: zarr.Array, b: zarr.Array, x: np.ndarray, chunk: int, keys: np.ndarray) -> float:
    """Write rows of A and of b before it is normalised, and return the sum of the latter."""
    rng = np.random.default_rng(chunk)
    rows = keys[rng.integers(len(keys), size=CHUNK_ROWS)]
    rows += NOISE * keys.std(axis=0) * rng.standard_normal(rows.shape, dtype=np.float32)
    rows = rows.astype(np.float16).astype(np.float32)
    z = (rows @ x.astype(np.float32)).astype(np.float64)
    u = (np.exp(z) + z) * (1.0 + B_NOISE * rng.standard_normal(CHUNK_ROWS))
    A[rows_of(chunk)], b[rows_of(chunk)] = rows, u
    return float(u.sum())


def scale_chunk(b: zarr.Array, total: float, chunk: int) -> None:
    b[rows_of(chunk)] = b[rows_of(chunk)] / total


def take_turn(store: Path, x: np.ndarray, number: int, full: bool, client: Client) -> Row:
    """Read A plainly, solve, and read it plainly once more."""
    A, b = (da.from_zarr(zarr.open_array(store / name, mode="r")) for name in ("A.zarr", "b.zarr"))
    plain = [seconds_of(lambda: load_all(A, client))]
    client.run(start_peak)
    before = client.run(spilled)
    marks = store / f"marks-{number}"
    marks.mkdir()
    result = dresoftmax.solve(
        A.map_blocks(mark, folder=marks, meta=A._meta),
        b,
        seed=number,
        client=client,
        persist=None if full else False,  # a small store would be held
    )
    peaks, after = client.run(resident, "VmHWM"), client.run(spilled)
    plain.append(seconds_of(lambda: load_all(A, client)))
    loads = Counter(path.name.partition("-")[0] for path in marks.iterdir()).values()
    reads = seconds_of_reads(result.history)
    stored = sum(path.stat().st_size for path in store.glob("*.zarr/**/*") if path.is_file())
    events = [event for address in peaks for _, event in client.get_events(address)]
    return {
        "GB": A.nbytes / 1e9,
        "GB_stored": stored / 1e9,
        "chunks": A.numblocks[0],
        "round": number,
        "plain_s": float(np.mean(plain)),
        "read_s": float(np.mean(reads)),
        "ratio": float(np.mean(reads)) / float(np.mean(plain)),
        "each": " ".join(f"{seconds / np.mean(plain):.2f}" for seconds in reads),
        "reads": len(reads),
        "loads": "-".join(str(n) for n in sorted({min(loads), max(loads)})),
        "data_passes": result.data_passes,
        "status": result.status.name,
        "loss": result.fun,
        "decrement": result.decrement,
        "x_error": float(np.linalg.norm(result.x - x) / np.linalg.norm(x)),
        "worker_GB": max(peaks.values()) / 1e9,
        "limit_GB": MEMORY / 1e9,
        "spilled": sum(after.values()) - sum(before.values()),
        "pauses": sum(event.get("status") == "paused" for event in events),
        "seconds": result.history[-1].seconds,
    }


def load_all(A: da.Array, client: Client) -> None:
    """Load each chunk once, in a task of its own."""
    shapes = client.compute([dask.delayed(np.shape)(chunk) for chunk in A.to_delayed().ravel()])
    assert sum(rows for rows, _ in client.gather(shapes)) == len(A)


def mark(rows: np.ndarray, block_info: object = None, *, folder: Path) -> np.ndarray:
    """Leave a file that records the load."""
    if block_info:
        (folder / f"{block_info[None]['chunk-location'][0]}-{uuid.uuid4().hex}").touch()
    return rows


def seconds_of_reads(history: list[IterationRecord]) -> list[float]:
    """Return the seconds of each read of all rows, with the driver's work before it."""
    seconds, before = [], 0.0
    for record in history:
        if record.phase == "full" and record.step != "unread":
            seconds.append(record.seconds - before)
            before = record.seconds
        elif not seconds and record.step != "anchor":  # its record comes after the read
            before = record.seconds
    return seconds


def spilled(dask_worker: object) -> int:
    """Return the bytes that a worker has written to disk since it started."""
    metrics = dask_worker.data.cumulative_metrics  # type: ignore[attr-defined]
    return int(metrics.get(("disk-write", "bytes"), 0))


def summary(rows: list[Row]) -> list[str]:
    """Return the largest ratio."""
    return [
        f"a read of all rows takes {max(row['ratio'] for row in rows):.2f} times as long "
        "as a plain read (at most 1.25 is wanted)"
    ]


if __name__ == "__main__":
    import sys

    began = time.perf_counter()
    for row in measure("--full" in sys.argv):
        print(row)
    print(f"{time.perf_counter() - began:.0f} s")
