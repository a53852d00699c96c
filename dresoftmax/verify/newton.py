"""Experiment (c): exact and approximate Newton, on data whose optimum is known.

The paper's theorem: near enough to a minimum, and with each Ĥ near enough to the Hessian,
O(log(‖x₀ − x*‖/ε)) steps reach ε.  Its constants could not be found.  Those ascribed to it are
‖x₀ − x*‖ ≤ 0.1·l/M, with l the smallest eigenvalue of ∇²L(x*) and M a Lipschitz constant of
∇²L; ε₀ ≤ 0.1; and a contraction of the distance by 0.4 in each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

import dresoftmax
from dresoftmax.problem import open_problem
from dresoftmax.result import SolveResult
from dresoftmax.theory import predicted_iterations
from dresoftmax.theory.convergence import goodness_at
from dresoftmax.verify.claims import Claim, Curve, Kind, Picture, Section, Source, Table, number
from dresoftmax.verify.newton_iteration import (
    KINDS,
    KnownOptimum,
    Method,
    Step,
    iterations,
    newton_iterates,
)
from dresoftmax.verify.problems import Synthetic, directions, synthetic

__all__ = ["experiment"]

# The ε₀ of the theorem.
SPECTRAL_ERROR = 0.1
DECADES = [10.0**-decade for decade in range(1, 11)]
# Distance of the start in the norm of ∇²L(x*), in radii; below 1 to stay inside with rounding.
INSIDE = 0.99
# Distances of further starts, in radii.
MULTIPLES = (1, 10, 100, 1000)
# Exponents that count as 2.
QUADRATIC = (1.8, 2.2)

Counts = Mapping[str, Sequence[float]]


def experiment(seed: int, *, n: int = 40_000, d: int = 8, ways: int = 6) -> Section:
    """Return what Newton's method does from inside and from outside the theorem's radius.

    `ways` is the number of directions from the optimum to a start.  Sketches have half the rows.
    """
    rng = np.random.default_rng([seed, 3])
    data = synthetic(n, d, 3.0, "exp+linear", rng, size=0.5)
    starts = directions(d, ways, rng)
    methods = [Method("exact"), *(Method(kind, n // 2, seed) for kind in KINDS)]
    with open_problem(data.A, data.b, unit=data.unit) as problem:
        optimum = KnownOptimum.of(problem, data)
        far = goodness_at(problem, data.x)
        begin = data.x + far.radius * INSIDE * starts[0] / _stretch(optimum, starts[0], far.l)
        good = goodness_at(problem, data.x, begin)
        runs = {method.kind: newton_iterates(optimum, begin, method) for method in methods}
        before, after = _single_steps(optimum, good.distance, starts)
        outside = _outside(optimum, good.radius, starts, methods)
    goals = [good.distance * decade for decade in DECADES]
    reached = {kind: [iterations(steps, goal) for goal in goals] for kind, steps in runs.items()}
    errors = {kind: max(step.spectral_error for step in steps) for kind, steps in runs.items()}
    derived = {
        kind: [good.predicted_iterations(goal, error) for goal in goals]
        for kind, error in errors.items()
        if error <= SPECTRAL_ERROR
    }
    stated = [predicted_iterations(goal, good.distance) for goal in goals]
    exponent, constant = np.polyfit(np.log(before), np.log(after), 1)
    slowest = max(reached, key=lambda kind: reached[kind][-1])
    return Section(
        "(c) Exact and approximate Newton",
        f"b = f(x*) exactly, n = {n:,}, d = {d}, unit {data.unit}, cond(A) = 3, so that the "
        "optimum is known. The plain iteration x − Ĥ⁻¹∇L(x), without a trust region, starts "
        f"{number(good.distance)} from x*, within the theorem's radius 0.1·l/M = "
        f"{number(good.radius)} (l = {number(good.l)}, M = {number(good.M)}), and at multiples "
        f"of the radius. Sketches have {n // 2:,} rows, drawn anew in each step.",
        [
            f"From within the radius, ten decades took {number(reached['exact'][-1])} exact steps, "
            f"and at most {number(reached[slowest][-1])} with a sketch ({slowest}); the theorem "
            f"allows {stated[-1]}.",
            _words(outside),
        ],
        [
            _lawful(
                "From within the radius, the number of iterations to ‖x − x*‖ ≤ ε is at most the "
                "one derived from the measured ε₀, over ten decades",
                Source.DERIVED, reached, derived, Kind.REQUIRED,
            ),
            _lawful(
                f"From within the radius, with ε₀ ≤ {SPECTRAL_ERROR}, the number of iterations is "
                "at most log(‖x₀ − x*‖/ε)/log(1/0.4), rounded up",
                Source.ASCRIBED, reached, dict.fromkeys(derived, stated), Kind.STATED,
            ),
            Claim(
                "Exact Newton is quadratic: a step raises the distance to a power between "
                f"{QUADRATIC[0]} and {QUADRATIC[1]}",
                Source.DERIVED,
                bool(QUADRATIC[0] <= exponent <= QUADRATIC[1]),
                f"exponent {exponent:.3f} over {len(before)} steps",
            ),
        ],
        [
            _law_table(reached, derived, stated, _solver_reads(data, goals, seed)),
            _outside_table(outside, methods),
        ],
        [
            _decay(runs, stated),
            Picture(
                "One exact step", "‖x − x*‖ before", "‖x − x*‖ after",
                [
                    Curve("observed", before, after),
                    Curve(
                        f"power {exponent:.2f}", before,
                        [math.exp(constant) * x**exponent for x in before], "--",
                    ),
                ],
                log="xy",
            ),
        ],
    )  # fmt: skip


def _stretch(optimum: KnownOptimum, way: np.ndarray, l: float) -> float:  # noqa: E741
    """Return the length of a unit vector in the norm of ∇²L(x*), divided by √l."""
    return optimum.energy(optimum.x + way) / math.sqrt(l)


def _lawful(text: str, source: Source, reached: Counts, allowed: Counts, kind: Kind) -> Claim:
    """Return the claim that each method takes at most the allowed iterations to every goal."""
    excess, method, i = max(
        (taken - most, method, i)
        for method, counts in allowed.items()
        for i, (taken, most) in enumerate(zip(reached[method], counts, strict=True))
    )
    return Claim(
        text,
        source,
        excess <= 0,
        f"{', '.join(allowed)}; closest at ε = {number(DECADES[i])}·‖x₀ − x*‖, {method}: "
        f"{number(reached[method][i])} of {number(allowed[method][i])}",
        kind,
    )


def _single_steps(
    optimum: KnownOptimum, distance: float, starts: np.ndarray
) -> tuple[list[float], list[float]]:
    """Return the distances before and after exact steps, from `distance` down to 1e-3 of it."""
    pairs = []
    for start, shorter in zip(starts, np.geomspace(1.0, 1e-3, len(starts)), strict=True):
        x = optimum.x + distance * shorter * start
        first, second = newton_iterates(optimum, x, Method("exact"), steps=2)
        pairs.append((first.distance, second.distance))
    before, after = zip(*pairs, strict=True)
    return list(before), list(after)


def _outside(
    optimum: KnownOptimum, radius: float, starts: np.ndarray, methods: Sequence[Method]
) -> dict[int, dict[str, list[float]]]:
    """Return the steps to the last goal by multiple, method and start; infinite if not reached."""

    def count(multiple: int, way: np.ndarray, method: Method) -> float:
        steps = newton_iterates(optimum, optimum.x + multiple * radius * way, method)
        return iterations(steps, DECADES[-1] * multiple * radius)

    return {
        multiple: {
            method.kind: [count(multiple, way, method) for way in starts] for method in methods
        }
        for multiple in MULTIPLES
    }


def _words(outside: Mapping[int, Mapping[str, Sequence[float]]]) -> str:
    """Say from how far away the iteration still converged to the optimum."""
    safe = [m for m, counts in outside.items() if max(map(max, counts.values())) < math.inf]
    lost = [m for m in outside if m not in safe]
    words = (
        f"All runs converged to x* from {safe[-1]} radii away"
        if safe
        else "At every distance some runs did not converge to x*"
    )
    return f"{words}; from {lost[0]} radii some did not." if safe and lost else f"{words}."


def _outside_table(
    outside: Mapping[int, Mapping[str, Sequence[float]]], methods: Sequence[Method]
) -> Table:
    def cell(counts: Sequence[float]) -> str:
        arrived = [count for count in counts if count < math.inf]
        if not arrived:
            return "never"
        return f"{number(float(np.median(arrived)))} ({len(arrived)} of {len(counts)})"

    return Table(
        "Steps to 1e-10 of the first distance (median over the runs that converged to x*)",
        ("start, in radii", *(method.kind for method in methods)),
        [(m, *map(cell, counts.values())) for m, counts in outside.items()],
    )


def _solver_reads(data: Synthetic, goals: Sequence[float], seed: int) -> list[float]:
    """Return the rows / n that `dresoftmax.solve` reads from x = 0 to reach each goal."""
    solves = []
    for tol in 10.0 ** -np.arange(0.0, 15.0):
        result = dresoftmax.solve(data.A, data.b, unit=data.unit, tol=tol, seed=seed)
        assert isinstance(result, SolveResult), "one target has one result"
        solves.append((float(np.linalg.norm(result.x - data.x)), result.data_passes))
    return [
        min((passes for distance, passes in solves if distance <= goal), default=math.nan)
        for goal in goals
    ]


def _law_table(
    reached: Counts, derived: Counts, stated: Sequence[float], reads: Sequence[float]
) -> Table:
    methods = [
        (name, reached[name], derived.get(name, [math.nan] * len(stated))) for name in reached
    ]
    names = [column for name, _, _ in methods for column in (name, "derived")]
    columns = [column for _, taken, most in methods for column in (taken, most)]
    return Table(
        "Iterations to ε from within the radius, the number derived from the ε₀ of each method, "
        "and rows read / n by dresoftmax.solve from x = 0",
        ("ε / first distance", "paper", *names, "solve"),
        list(zip(DECADES, stated, *columns, reads, strict=True)),
    )


def _decay(runs: Mapping[str, Sequence[Step]], stated: Sequence[float]) -> Picture:
    curves = [
        Curve(kind, range(len(steps)), [step.distance / steps[0].distance for step in steps], "-")
        for kind, steps in runs.items()
    ]
    theorem = Curve("theorem", [0.0, *stated], [1.0, *DECADES], "--")
    return Picture(
        "From within the theorem's radius", "iteration", "‖x − x*‖ / first", [*curves, theorem]
    )
