"""What a fault costs: a lost worker, a solve that is resumed, a checkpoint.

    python benchmarks/run.py --only faults

Two workers solve the same problem in turns: undisturbed; with a checkpoint; with one
worker killed after the first step; and resumed from the checkpoint of a solve that was
ended there.  `lost` is the time beyond that of the undisturbed solve, by the shortest of
each; `read` is the time of a read, `load` that of loading all rows, and `ratio` is `lost`
over the sum of both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from distributed import Client
from workers import cluster, matrix, placed, read, seconds_to_read, target

import dresoftmax
from dresoftmax.result import IterationRecord, SolveResult

CHUNKS = 32
SHOWN = (
    "case", "problem", "seconds", "lost", "read", "load", "ratio", "kilobytes", "data_passes",
    "difference",
)  # fmt: skip


class Ended(Exception):
    """Ends a solve as a crash of its client would."""


def measure(full: bool) -> list[dict[str, object]]:
    """Return a row for each fault and problem; `full` has more rows."""
    n = 4_000_000 if full else 1_000_000
    rows = []
    with cluster(2) as client, tempfile.TemporaryDirectory() as folder:
        for d, count in ((32, n), (200, n // 16)):
            rows += faults(client, count, d, Path(folder) / f"{d}.npz", 5 if full else 3)
    return rows


def faults(client: Client, n: int, d: int, path: Path, turns: int) -> list[dict[str, object]]:
    """Solve in turns, so that other load on the machine affects all alike."""
    A = matrix(n, d, CHUNKS)
    b = target(A, noise=0.3).persist()
    solve = partial(dresoftmax.solve, A, b, seed=0, client=client)
    cases: dict[str, Callable[[], SolveResult]] = {
        "undisturbed": solve,
        "checkpoint": partial(solve, checkpoint=path),
        "resumed": partial(solve, resume=path.with_suffix(".ended.npz")),
        "killed": lambda: solve(callback=after_a_step(partial(kill_a_worker, client))),
    }
    whole = solve()  # compiles
    with suppress(Ended):
        solve(checkpoint=path.with_suffix(".ended.npz"), callback=after_a_step(end))
    spent: dict[str, list[float]] = {case: [] for case in cases}
    results = {}
    for _ in range(turns):
        for case, run in cases.items():
            client.wait_for_workers(2)
            began = time.perf_counter()
            results[case] = run()
            spent[case].append(time.perf_counter() - began)
    client.wait_for_workers(2)
    began = time.perf_counter()
    with placed(client, A) as engine:
        engine.reduce(read(d, "none"))
        load = time.perf_counter() - began
        seconds = seconds_to_read(engine, read(d, "exact"), 5)[0]
    usual = min(spent["undisturbed"])
    return [
        {
            "case": case,
            "problem": f"{n} x {d}",
            "seconds": min(spent[case]),
            "lost": min(spent[case]) - usual,
            "read": seconds,
            "load": load,
            "ratio": (min(spent[case]) - usual) / (seconds + load),
            "kilobytes": path.stat().st_size / 1e3 if case == "checkpoint" else None,
            "data_passes": result.data_passes,
            "difference": float(np.abs(result.x - whole.x).max()),
        }
        for case, result in results.items()
    ]


def after_a_step(act: Callable[[], None]) -> Callable[[IterationRecord], None]:
    """Return a callback that acts once, after all rows have been read."""
    left = [act]

    def callback(record: IterationRecord) -> None:
        if record.phase == "full" and left:
            left.pop()()

    return callback


def end() -> None:
    raise Ended


def kill_a_worker(client: Client) -> None:
    """Kill the process of one worker; its nanny starts another."""
    worker = min(client.scheduler_info()["workers"])
    client.run(kill_self, workers=[worker], nanny=True, wait=True)


def kill_self(dask_worker: object) -> None:
    dask_worker.process.process.kill()
