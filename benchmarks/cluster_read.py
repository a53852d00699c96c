"""What a read of A costs on a cluster beyond its compute, and what two workers gain.

    python benchmarks/cluster_read.py [--full]

- overhead: a read with two workers, less the seconds within its tasks;
- blocks: the time of a read of the same rows in 2 to 1,000 blocks;
- reduction: an exact Hessian of 2,000 columns, whose 32 MB from each worker are
  added on the workers;
- load: a solve that also loads its rows, over loading and then solving;
- workers: the gain of two workers over one, beside that of two NumPy threads, which
  compute AᵀA in the compute-bound case, and the sum of A in the memory-bound one; with
  the rows of the worker that holds most, over an even share.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
from distributed import Client, wait
from threadpoolctl import threadpool_limits
from workers import CONTEXT, cluster, matrix, placed, print_table, read, seconds_to_read, target

import dresoftmax
from dresoftmax.blocks.base import Block

BLOCKS = (2, 10, 100, 1000)


def measure(full: bool) -> list[dict[str, object]]:
    """Return a row for each case; `full` has more rows and repeats."""
    repeats = 9 if full else 5
    with cluster(2) as two:
        rows = [
            *overhead(two, 3 * repeats),
            *blocks(two, 2_000_000 if full else 500_000, repeats),
            *reduction(two, 20_000 if full else 5_000),
            *load(two, 2_000_000 if full else 500_000),
        ]
        with cluster(1) as one:
            rows += workers(one, two, full)
    return [{**row, **CONTEXT} for row in rows]


def overhead(client: Client, repeats: int) -> list[dict[str, object]]:
    rows = []
    for n, d in ((2_000, 5), (400_000, 32)):
        with placed(client, matrix(n, d, chunks=2)) as engine:
            seconds, inside, rest = seconds_to_read(engine, read(d, "exact"), repeats)
        rows.append(
            {
                "case": "overhead",
                "problem": f"{n} x {d}",
                "seconds": seconds,
                "seconds_inside": inside,
                "overhead": rest,
                "target": 0.025,
            }
        )
    return rows


def blocks(client: Client, n: int, repeats: int) -> list[dict[str, object]]:
    """Take turns, so that other load on the machine affects all alike."""
    d, task = 32, read(32, "exact")
    spent: dict[int, list[tuple[float, ...]]] = {count: [] for count in BLOCKS}
    with ExitStack() as stack:
        engines = {
            count: stack.enter_context(placed(client, matrix(n, d, chunks=count)))
            for count in BLOCKS
        }
        for _ in range(repeats):
            for count, engine in engines.items():
                spent[count].append(seconds_to_read(engine, task, 1))
    medians = {count: np.median(times, axis=0) for count, times in spent.items()}
    return [
        {
            "case": "blocks",
            "problem": f"{n} x {d}",
            "blocks": count,
            "seconds": float(seconds),
            "seconds_inside": float(inside),
            "overhead": float(rest),
            "ratio": float(seconds / medians[BLOCKS[0]][0]),
            "target": 1.2,
        }
        for count, (seconds, inside, rest) in medians.items()
    ]


def reduction(client: Client, n: int) -> list[dict[str, object]]:
    d = 2_000
    with placed(client, matrix(n, d, chunks=4)) as engine:
        seconds, inside, rest = seconds_to_read(engine, read(d, "exact"), 3)
    return [
        {
            "case": "reduction",
            "problem": f"{n} x {d}",
            "seconds": seconds,
            "seconds_inside": inside,
            "overhead": rest,
        }
    ]


def load(client: Client, n: int) -> list[dict[str, object]]:
    """Compare a solve that also loads with loading and then solving, by the best of three turns."""
    A = matrix(n, 32, chunks=16)
    b = target(A, noise=0.1).persist()
    solve(A, b, client)  # compiles
    at_once, apart = [], []
    for _ in range(3):
        at_once.append(seconds_of(lambda: solve(A, b, client)))
        began = time.perf_counter()
        persisted = A.persist()
        wait(persisted)
        result = solve(persisted, b, client)
        apart.append(time.perf_counter() - began)
        del persisted
    return [
        {
            "case": "load",
            "problem": f"{n} x 32",
            "seconds": min(at_once),
            "seconds_apart": min(apart),
            "ratio": min(at_once) / min(apart),
            "status": result.status.name,
            "loss": result.fun,
            "decrement": result.decrement,
            "data_passes": result.data_passes,
        }
    ]


def solve(A: object, b: object, client: Client) -> dresoftmax.SolveResult:
    return dresoftmax.solve(A, b, seed=0, client=client)


def seconds_of(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def workers(one: Client, two: Client, full: bool) -> list[dict[str, object]]:
    """Measure how much faster two workers read than one, by the shortest of some reads."""
    rows = []
    for bound, n, d, kind, plain, goal in (
        ("compute", 200_000 if full else 80_000, 500, "exact", product, 1.6),
        ("memory", 8_000_000 if full else 2_000_000, 32, "none", np.sum, None),
    ):
        with (
            placed(one, matrix(n, d, 8, np.float32)) as single,
            placed(two, matrix(n, d, 8, np.float32)) as both,
        ):
            times = [
                seconds_to_read(engine, read(d, kind), 7, np.min)[0] for engine in (single, both)
            ]
            rows_of = both.reduce(rows_held)
        parts = [np.ones((n // 2, d), np.float32) for _ in range(2)]
        rows.append(
            {
                "case": "workers",
                "problem": f"{n} x {d} float32, {bound}-bound",
                "seconds_one": times[0],
                "seconds_two": times[1],
                "gain": times[0] / times[1],
                "gain_of_machine": gain(plain, parts),
                "most_over_even": 2 * max(rows_of) / n,
                "target": goal,
            }
        )
    return rows


def rows_held(blocks: Sequence[Block], threads: int) -> list[int]:
    """Return the number of rows in a list, so that the sum has those of all workers."""
    return [sum(block.rows for block in blocks)]


def product(A: np.ndarray) -> np.ndarray:
    """Return AᵀA, the bulk of an exact Hessian."""
    return A.T @ A


def gain(call: Callable[[np.ndarray], object], parts: list[np.ndarray]) -> float:
    """Return how much faster two threads process two arrays than one does: the limit here."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(2) as pool:
        one = min(seconds_of(lambda: list(map(call, parts))) for _ in range(5))
        two = min(seconds_of(lambda: list(pool.map(call, parts))) for _ in range(5))
    return one / two


if __name__ == "__main__":
    print_table("Reads on a cluster", measure("--full" in sys.argv))
