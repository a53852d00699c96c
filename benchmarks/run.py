"""Measure reads of A, and what one costs beside summing A once.

    python benchmarks/run.py [--output FOLDER]

Every row names problem, versions, cores, and the loss and decrement reached, so
that a fast wrong answer shows.  Times are ratios within one run: the machines
that this runs on are shared.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import dask.array as da
import numpy as np
from distributed import Client
from problems import Problem, attention, synthetic
from rich.console import Console
from rich.table import Table

import dresoftmax
from dresoftmax.embedded import embedded_client

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
REPEATS = 3


def best_seconds(call: Callable[[], object]) -> float:
    """Return the shortest of some runs, after one to warm up."""
    call()
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def seconds_to_sum(A: np.ndarray) -> float:
    """Return how long all cores take to sum A once: the speed of memory."""
    parts = np.array_split(A, CORES)
    with ThreadPoolExecutor(CORES) as pool:
        return best_seconds(lambda: list(pool.map(np.sum, parts)))


def measure(problem: Problem, engine: str, client: Client | None) -> dict[str, object]:
    """Solve a problem, and return one row of the table."""
    A: object = problem.A
    if client is not None:
        rows = -(-len(problem.A) // (8 * CORES))
        A = da.from_array(problem.A, chunks=(rows, -1)).persist()

    def solve() -> dresoftmax.SolveResult:
        return dresoftmax.solve(A, problem.b, unit=problem.unit, seed=0, client=client)

    solve()
    began = time.perf_counter()
    result = solve()
    seconds = time.perf_counter() - began
    full = [record.seconds for record in result.history if record.phase == "full"]
    per_read = float(np.diff(full).mean()) if len(full) > 1 else float("nan")
    summing = seconds_to_sum(problem.A)
    b_norm = np.linalg.norm(problem.b)
    return {
        "problem": problem.name,
        "unit": problem.unit,
        "engine": engine,
        "cores": CORES,
        "dresoftmax": dresoftmax.__version__,
        "dask": version("dask"),
        "numpy": version("numpy"),
        "status": result.status.name,
        "loss": result.fun / b_norm**2,
        "decrement": result.decrement / b_norm,
        "hessian": result.hessian_kind,
        "data_passes": result.data_passes,
        "seconds": seconds,
        "seconds_per_read": per_read,
        "seconds_to_sum": summing,
        "read_over_sum": per_read / summing,
    }


def main() -> None:
    """Measure everything, print the table and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)

    rows = [measure(p, "threads", None) for unit in ("exp+linear", "exp") for p in attention(unit)]
    large = [
        synthetic(500_000, d, cond, noise)
        for d, cond, noise in ((32, 1.0, 0.1), (32, 1e2, 1.0), (32, 1e4, 0.1), (100, 1e2, 0.1))
    ]
    rows += [measure(problem, "threads", None) for problem in large]
    with embedded_client(CORES) as client:
        rows += [measure(problem, f"{CORES} workers", client) for problem in large]

    with (output / "reads.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shown = (
        "problem", "unit", "engine", "status", "loss", "decrement", "hessian", "data_passes",
        "seconds", "read_over_sum",
    )  # fmt: skip
    table = Table(*shown, box=None)
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v := row[k], float) else str(v) for k in shown))
    console = Console(width=150)
    console.print(table)
    for unit in ("exp+linear", "exp"):
        passes = [
            float(str(row["data_passes"]))
            for row in rows
            if row["unit"] == unit and str(row["problem"]).startswith("attention")
        ]
        middle, worst = np.median(passes), max(passes)
        console.print(f"attention, {unit}: median {middle:.2f}, worst {worst:.2f} data passes")
    console.print(f"written to {output / 'reads.csv'}")


if __name__ == "__main__":
    main()
