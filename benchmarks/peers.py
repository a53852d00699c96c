"""The suite of peers: every solver on the same problems, to the same gradient.

A row for each problem and solver.  What it reached is judged by `quality`, so that a
fast wrong answer shows: `excess` is how far its loss is above the least one found.
`times_dresoftmax` is its time over that of dresoftmax on the same data, in one
process or on workers alike.  Each solver has a process of its own, so that the
thread pools of others do not disturb it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import peers_plot
from measure import Row
from problems import CONDITIONS, MILD, Problem, attention, synthetic
from quality import judge
from solvers import DASK_LBFGS, DRESOFTMAX, DRESOFTMAX_DASK, SOLVERS, Solver, best_outcome
from watch import NEAR

TOL = 1e-8
# Attention problems that are taken: one query of each head.
STRIDE = 8
# Below so many values in A, a cluster is of no use.
LEAST_ON_WORKERS = 1_000_000
ON_WORKERS = {DRESOFTMAX_DASK, DASK_LBFGS}
# Points kept of a curve.
POINTS = 60

SHOWN = (
    "problem", "unit", "solver", "seconds", "compiling", "times_dresoftmax", "evaluations",
    "gradient", "decrement", "loss", "excess", "reached", "note",
)  # fmt: skip


def problems(full: bool, folder: Path | None) -> Iterator[tuple[Problem, float]]:
    """Yield each problem and the seconds that a peer gets for it; the showcase is the last."""
    cap = 5.0 if full else 2.0
    yield synthetic(1_000, 5, 1e2, MILD), cap
    for unit in ("exp+linear", "exp"):
        for problem in islice(attention(unit, folder), 0, None, STRIDE):
            yield problem, cap
    if full:
        for n in (10_000, 100_000):
            for cond in CONDITIONS:
                yield synthetic(n, 32, cond, MILD), cap
        for cond in (CONDITIONS[0], CONDITIONS[-1]):
            yield synthetic(500_000, 100, cond, MILD), 3.0 * cap
        yield synthetic(500_000, 100, 1e2, MILD), 24.0 * cap
    else:
        for cond in (CONDITIONS[0], CONDITIONS[-1]):
            yield synthetic(10_000, 32, cond, MILD), cap
        yield synthetic(100_000, 32, 1e2, MILD), 5.0 * cap


def measure(full: bool, folder: Path | None = None) -> list[Row]:
    """Return a row for each problem and installed solver."""
    installed = [solver for solver in SOLVERS if solver.installed]
    for solver in SOLVERS:
        if solver not in installed:
            print(f"skipped: {solver.name}, for {solver.package} is not installed")
    rows: list[Row] = []
    with ExitStack() as stack:
        processes = {
            solver: stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            for solver in installed
        }
        for problem, cap in problems(full, folder):
            print(f"{problem.name}, {problem.unit}: {cap:g} s for each peer", flush=True)
            rows += _compare(problem, processes, cap)
    return rows


def _compare(
    problem: Problem, processes: Mapping[Solver, ProcessPoolExecutor], cap: float
) -> list[Row]:
    """Return a row for each solver on one problem."""
    rows: list[Row] = []
    own: dict[bool, float] = {}
    for solver, process in processes.items():
        if solver in ON_WORKERS and problem.A.size < LEAST_ON_WORKERS:
            continue
        outcome = process.submit(best_outcome, solver, problem, TOL, cap).result()
        if solver in (DRESOFTMAX, DRESOFTMAX_DASK):
            own[solver in ON_WORKERS] = outcome.seconds
        quality = judge(problem, outcome.x)
        near = TOL < quality.gradient <= NEAR * TOL
        if near and outcome.curve:  # nothing after the least gradient counts
            least = min(outcome.curve, key=lambda point: point[1])
            curve = [point for point in outcome.curve if point <= least]
            outcome = replace(outcome, seconds=least[0], curve=curve)
        rows.append({
            "problem": problem.name,
            "n": problem.A.shape[0],
            "d": problem.A.shape[1],
            "unit": problem.unit,
            "solver": solver.name,
            "version": f"{solver.package} {version(solver.package)}",
            "seconds": outcome.seconds,
            "compiling": outcome.compile_seconds,
            "times_dresoftmax": outcome.seconds / own[solver in ON_WORKERS],
            "evaluations": outcome.evaluations,
            "loss": quality.loss,
            "gradient": quality.gradient,
            "decrement": quality.decrement,
            "reached": "near" if near else "yes" if quality.gradient <= TOL else "no",
            "note": outcome.note,
            "curve": _thinned(outcome.curve),
        })  # fmt: skip
    least = min(row["loss"] for row in rows)
    return [row | {"excess": row["loss"] / least - 1.0 if least > 1e-14 else 0.0} for row in rows]


def _thinned(curve: Sequence[tuple[float, float]]) -> str:
    """Return the least gradient so far at some times, evenly spaced by their logarithm."""
    if not curve:
        return ""
    seconds, gradients = np.array(curve).T
    times = np.geomspace(seconds[0], seconds[-1], POINTS)
    kept = np.unique(np.clip(np.searchsorted(seconds, times), 0, len(seconds) - 1))
    least = np.minimum.accumulate(gradients)
    return " ".join(f"{seconds[i]:.4g}:{least[i]:.3g}" for i in kept)


def _answers(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of peers that count: those near the gradient, and those cut short."""
    own = (DRESOFTMAX.name, DRESOFTMAX_DASK.name, "zeros")
    return [
        row for row in rows
        if row["solver"] not in own and (row["reached"] != "no" or _is_capped(row))
    ]  # fmt: skip


def _is_capped(row: Row) -> bool:
    return row["reached"] == "no" and "capped" in row["note"]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the showcase and the times on all problems."""
    peers_plot.draw(rows, path)


def summary(rows: Sequence[Row]) -> list[str]:
    """Return how the showcase went, and on which problems a peer was faster."""
    showcase = rows[-1]["problem"]
    here = _answers([row for row in rows if row["problem"] == showcase])
    on_workers = [row for row in here if row["solver"] == DASK_LBFGS.name]
    in_memory = [row for row in here if row["solver"] != DASK_LBFGS.name]
    groups = {
        "best peer in memory (target 20)": in_memory,
        "best L-BFGS in memory (target 100)": [r for r in in_memory if "L-BFGS" in r["solver"]],
        "L-BFGS on Dask (target 100)": on_workers,
    }
    lines = []
    for name, members in groups.items():
        if members:
            best = min(members, key=lambda row: row["seconds"])
            least = "more than " if _is_capped(best) else ""
            lines.append(
                f"{showcase}, {name}: {best['solver']} takes {least}"
                f"{best['times_dresoftmax']:.1f} × the time of dresoftmax"
            )
    large = _answers([row for row in rows if row["n"] >= 10_000])
    faster = [row for row in large if row["times_dresoftmax"] < 1.0]
    count = len({(row["problem"], row["unit"]) for row in large})
    lost = len({(row["problem"], row["unit"]) for row in faster})
    lines.append(f"a peer is faster on {lost} of {count} problems from n = 10,000 up (target 0)")
    for key in dict.fromkeys((row["problem"], row["unit"]) for row in faster):
        best = min(
            (row for row in faster if (row["problem"], row["unit"]) == key),
            key=lambda row: row["seconds"],
        )
        lines.append(
            f"faster on {key[0]}, {key[1]}: {best['solver']}, "
            f"{best['times_dresoftmax']:.2f} × the time of dresoftmax"
        )
    own = next(row for row in rows if row["solver"] == DRESOFTMAX.name)
    lines.append(f"{own['problem']}: {1e3 * own['seconds']:.1f} ms in this process (target 10)")
    return lines
