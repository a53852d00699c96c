"""The suite of reads: how often A is read until the decrement is at most 1e-8·‖b‖.

A row for each problem and seed.  `excess` is how far the loss is above the least one
that any seed found, and shows a solve that ended in a worse optimum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from measure import Row, seconds_of
from problems import Problem, attention, synthetic_grid
from quality import judge

import dresoftmax

TOL = 1e-8
# Losses that differ by less, over ‖b‖², are those of one optimum.
SAME = 1e-6

SHOWN = (
    "problem", "unit", "seed", "data_passes", "full_reads", "seconds", "status", "hessian",
    "loss", "excess", "gradient", "decrement",
)  # fmt: skip


def problems(full: bool, folder: Path | None) -> Iterator[Problem]:
    """Yield attention under both units, then synthetic problems."""
    for unit in ("exp+linear", "exp"):
        yield from attention(unit, folder)
    yield from synthetic_grid(500_000 if full else 100_000, 32)
    if full:
        yield from synthetic_grid(500_000, 100)


def measure(full: bool, folder: Path | None = None) -> list[Row]:
    """Return a row for each problem and seed."""
    rows: list[Row] = []
    for problem in problems(full, folder):
        found = [_solve(problem, seed) for seed in range(5 if full else 3)]
        least = min(row["loss"] for row in found)
        rows += [row | {"excess": row["loss"] - least} for row in found]
    return rows


def _solve(problem: Problem, seed: int) -> Row:
    results = []
    seconds = seconds_of(
        lambda: results.append(
            dresoftmax.solve(problem.A, problem.b, unit=problem.unit, seed=seed, tol=TOL)
        )
    )
    result, quality = results[0], judge(problem, results[0].x)
    return {
        "problem": problem.name,
        "unit": problem.unit,
        "seed": seed,
        "data_passes": result.data_passes,
        "full_reads": sum(r.phase == "full" and r.step != "unread" for r in result.history),
        "seconds": seconds,
        "status": result.status.name,
        "hessian": result.hessian_kind,
        "loss": quality.loss,
        "gradient": quality.gradient,
        "decrement": quality.decrement,
    }


def summary(rows: Sequence[Row]) -> list[str]:
    """Return median and worst data passes of each group, and what went wrong."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        group = str(row["problem"]).split("-")[0]
        groups.setdefault(f"{group}, {row['unit']}", []).append(row)
    targets = {
        "attention, exp+linear": " (target 4.5, 6)",
        "synthetic, exp+linear": " (target for the worst 6)",
    }
    lines = []
    for name, members in groups.items():
        passes = [row["data_passes"] for row in members]
        failed = sum(row["status"] != "CONVERGED" for row in members)
        worse = sum(row["excess"] > SAME for row in members)
        lines.append(
            f"{name}: median {np.median(passes):.2f}, worst {max(passes):.2f} data passes"
            f"{targets.get(name, '')}; {len(members)} solves, {failed} not converged, {worse} in "
            "a worse optimum"
        )
    return lines
