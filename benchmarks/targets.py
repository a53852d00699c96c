"""Many targets over the same rows, beside one: in memory, and loaded in each read.

For each problem k targets are solved jointly, and some of them singly; `ratio` is the joint
time over the mean single one.  `held` has A in this process.  `loaded` has it in a Zarr store
of compressible rows, of half precision stored in float32, from which two workers load each
chunk in every read.  `slow` delays each load as storage would that gives 50 MB/s to each of
the workers' two loading threads.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster
from measure import Row, seconds_of
from problems import synthetic

import dresoftmax
from dresoftmax.datasets import AttentionHead, load_attention
from dresoftmax.result import SolveResult

TARGETS = (4, 16)
NOISE = 0.1
CHUNK_BYTES = 48 << 20
SLOW = 50e6
SHOWN = (
    "problem", "where", "GB", "targets", "one_seconds", "seconds", "ratio", "one_reads", "reads",
    "one_passes", "data_passes", "converged", "worse",
)  # fmt: skip
# A loss that is larger by more than this, over ‖b‖², is that of a worse optimum.
SAME = 1e-6


def attention(folder: Path | None) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the keys of a head, and its weights for 8 queries and 8 mixtures of two."""
    head = load_attention()
    if folder is not None:
        keys = sorted(folder.glob("keys_*.npy"))[0]
        queries = keys.with_name(keys.name.replace("keys_", "queries_", 1))
        head = AttentionHead(np.load(keys), np.load(queries))
    queries = head.queries.astype(float)
    queries = np.concatenate([queries, 0.5 * (queries + np.roll(queries, 1, axis=0))])
    A = head.problem(0)[0]
    z = A @ queries.T
    b = np.exp(z - z.max(axis=0))
    return "attention", A, b / b.sum(axis=0)


def fits_of(A: np.ndarray, k: int) -> np.ndarray:
    """Return k noisy targets f(x), each for an x of its own with Var(Ax) = 1."""
    rng = np.random.default_rng(1)
    b = np.empty((len(A), k))
    for column in b.T:
        x = np.linalg.lstsq(A[: 20 * A.shape[1]], rng.standard_normal(20 * A.shape[1]))[0]
        z = A @ (x / np.std(A @ x))
        u = np.abs((np.exp(z) + z) * (1.0 + NOISE * rng.standard_normal(len(A))))
        column[:] = u / u.sum()
    return b


def problems(full: bool, folder: Path | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, A and the largest number of targets of each problem."""
    yield attention(folder)
    for n, d in ((500_000, 32), (500_000, 100), (2_000_000, 32)) if full else ((200_000, 32),):
        problem = synthetic(n, d, 1e2, NOISE)
        yield problem.name, problem.A, fits_of(problem.A, max(TARGETS))


def measure(full: bool, folder: Path | None = None) -> list[Row]:
    """Return a row for each problem and number of targets."""
    rows = []
    for name, A, b in problems(full, folder):
        rows += compare(name, "held", A, b, A.nbytes, lambda A, b: dresoftmax.solve(A, b, seed=0))
    return rows + (loaded(1_200_000, True) if full else loaded(200_000, False))


def loaded(n: int, slow_too: bool) -> list[Row]:
    """Return the rows of a problem whose A two workers load in each read."""
    problem = synthetic(n, 100, 1e2, NOISE)
    A = problem.A.astype(np.float16).astype(np.float32)
    b = fits_of(A, max(TARGETS))
    rows_per_chunk = CHUNK_BYTES // (4 * A.shape[1])
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=2_000_000_000,
            dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        chunks = (rows_per_chunk, A.shape[1])
        zarr.create_array(store=folder, data=A, chunks=chunks)
        lazy, nbytes = da.from_zarr(folder), A.nbytes
        targets = da.from_array(b, chunks=(rows_per_chunk, max(TARGETS)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a large graph, which is sent only once
            targets = client.persist(targets)
        del A, b, problem

        def solve(A: da.Array, b: da.Array) -> object:
            return dresoftmax.solve(A, b, seed=0, client=client, persist=False)

        name = f"synthetic-{n}x100-float32"
        rows = compare(name, "loaded", lazy, targets, nbytes, solve)
        if slow_too:
            slow = lazy.map_blocks(slowly, meta=lazy._meta)
            rows += compare(name, "slow", slow, targets, nbytes, solve)
        return rows


def slowly(chunk: np.ndarray) -> np.ndarray:
    """Return the chunk after the time that slow storage would take."""
    time.sleep(chunk.nbytes / SLOW)
    return chunk


def compare(
    name: str, where: str, A: object, b: object, nbytes: int, solve: Callable[..., object]
) -> list[Row]:
    """Return a row for each number of targets, beside single solves of some of them."""
    results: list[SolveResult] = []
    solve(A, b[:, 0])  # compiles, and opens files
    chosen, repeats = (range(0, max(TARGETS), 4), 2) if where == "held" else ((0, 8), 1)
    one = [seconds_of(partial(solve_into, results, solve, A, b[:, t])) for t in chosen]
    norms = np.asarray(np.sum(np.square(b), axis=0))
    rows = []
    for k in TARGETS:
        joint: list[dresoftmax.JointResult] = []
        together = partial(solve_into, joint, solve, A, b[:, :k])
        seconds = min(seconds_of(together) for _ in range(repeats))
        found = joint[-1]
        excess = [
            (found[t].fun - single.fun) / norms[t]
            for t, single in zip(chosen, results, strict=True)
            if t < k
        ]
        rows.append(
            {
                "problem": name,
                "where": where,
                "GB": nbytes / 1e9,
                "targets": k,
                "one_seconds": float(np.mean(one)),
                "seconds": seconds,
                "ratio": seconds / float(np.mean(one)),
                "one_reads": max(map(reads_of, results)),
                "reads": max(map(reads_of, found)),
                "one_passes": float(np.mean([single.data_passes for single in results])),
                "data_passes": found.data_passes,
                "converged": sum(result.success for result in found),
                "worse": sum(value > SAME for value in excess),
            }
        )
    return rows


def solve_into(results: list[object], solve: Callable[..., object], A: object, b: object) -> None:
    results.append(solve(A, b))


def reads_of(result: SolveResult) -> int:
    """Count the reads of all rows."""
    return sum(r.phase == "full" and r.step != "unread" for r in result.history)


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the ratios beside their targets."""
    most, lines = max(TARGETS), []
    for where, target in (("held", 8.0), ("loaded", 1.5), ("slow", 1.5)):
        found = [row for row in rows if row["where"] == where and row["targets"] == most]
        each = ", ".join(f"{row['ratio']:.2f} ({row['problem']})" for row in found)
        if found:
            lines.append(f"{where}, {most} targets beside one (target {target}): {each}")
    return lines
