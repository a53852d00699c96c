"""Exact and approximate Newton, on data whose optimum is known.

The paper's theorem: near enough to a minimum, and with each Ĥ near enough to the Hessian,
O(log(‖x₀ − x*‖/ε)) steps reach ε.  Its constants could not be found; those that are ascribed
to it are ‖x₀ − x*‖ ≤ 0.1·l/M, with l the smallest eigenvalue of ∇²L(x*) and M a Lipschitz
constant of ∇²L, ε₀ ≤ 0.1, and 0.4 of the distance that a step leaves at most.
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
from dresoftmax.verify.newton_iteration import KINDS, KnownOptimum, Method, Step, course, iterations
from dresoftmax.verify.problems import Synthetic, directions, synthetic

__all__ = ["experiment"]

# The ε₀ of the theorem.
SPECTRAL_ERROR = 0.1
DECADES = [10.0**-decade for decade in range(1, 11)]
# Where iterations start, in the radius in the norm of ∇²L(x*); rounding is not to put them out.
INSIDE = 0.99
# Starts, in radii of the theorem.
MULTIPLES = (1, 10, 100, 1000)
# What counts as the exponent 2.
QUADRATIC = (1.8, 2.2)

Counts = Mapping[str, Sequence[float]]


def experiment(seed: int, *, n: int = 40_000, d: int = 8, ways: int = 6) -> Section:
    """Return what Newton's method does from within and from outside of the theorem's radius.

    Iterations start in so many `ways` from the optimum; sketches are of half of the rows.
    """
    rng = np.random.default_rng([seed, 3])
    data = synthetic(n, d, 3.0, "exp+linear", rng, size=0.5)
    starts = directions(d, ways, rng)
    methods = [Method("exact"), *(Method(kind, n // 2, seed) for kind in KINDS)]
    with open_problem(data.A, data.b, unit=data.unit) as problem:
        valley = KnownOptimum.of(problem, data)
        far = goodness_at(problem, data.x)
        begin = data.x + far.radius * INSIDE * starts[0] / _stretch(valley, starts[0], far.l)
        good = goodness_at(problem, data.x, begin)
        courses = {method.kind: course(valley, begin, method) for method in methods}
        before, after = _single_steps(valley, good.distance, starts)
        outside = _outside(valley, good.radius, starts, methods)
    goals = [good.distance * decade for decade in DECADES]
    reached = {kind: [iterations(steps, goal) for goal in goals] for kind, steps in courses.items()}
    errors = {kind: max(step.spectral_error for step in steps) for kind, steps in courses.items()}
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
        "optimum is known. The plain iteration x − Ĥ⁻¹∇L(x), without any trust region, starts "
        f"{number(good.distance)} from x*, within the theorem's radius 0.1·l/M = "
        f"{number(good.radius)} (l = {number(good.l)}, M = {number(good.M)}), and at multiples "
        f"of the radius. Sketches are of {n // 2:,} rows, drawn anew in each step.",
        [
            f"From within the radius ten decades took {number(reached['exact'][-1])} exact steps, "
            f"and at most {number(reached[slowest][-1])} with a sketch ({slowest}); the theorem "
            f"allows {stated[-1]}.",
            _words(outside),
        ],
        [
            _lawful(
                "From within the radius, with ε₀ as measured, at most the derived number of "
                "iterations reaches ‖x − x*‖ ≤ ε, over ten decades",
                Source.DERIVED, reached, derived, Kind.REQUIRED,
            ),
            _lawful(
                f"From within the radius, with ε₀ ≤ {SPECTRAL_ERROR}, at most "
                "log(‖x₀ − x*‖/ε)/log(1/0.4) iterations, rounded up, do",
                Source.ASCRIBED, reached, dict.fromkeys(derived, stated), Kind.STATED,
            ),
            Claim(
                "Exact Newton is quadratic: a step takes the distance to a power of "
                f"{QUADRATIC[0]} to {QUADRATIC[1]}",
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
            _decay(courses, stated),
            Picture(
                "One exact step", "‖x − x*‖ before it", "‖x − x*‖ after it",
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


def _stretch(valley: KnownOptimum, way: np.ndarray, l: float) -> float:  # noqa: E741
    """Return how much longer a direction is in the norm of ∇²L(x*), divided by √l."""
    return valley.energy(valley.x + way) / math.sqrt(l)


def _lawful(text: str, source: Source, reached: Counts, allowed: Counts, kind: Kind) -> Claim:
    """Return the claim that no method takes more iterations than allowed, to any goal."""
    excess, method, i = max(
        (taken - most, method, i)
        for method, counts in allowed.items()
        for i, (taken, most) in enumerate(zip(reached[method], counts, strict=True))
    )
    return Claim(
        text,
        source,
        excess <= 0,
        f"{', '.join(allowed)}; nearest at ε = {number(DECADES[i])}·‖x₀ − x*‖, {method}: "
        f"{number(reached[method][i])} of {number(allowed[method][i])}",
        kind,
    )


def _single_steps(
    valley: KnownOptimum, distance: float, starts: np.ndarray
) -> tuple[list[float], list[float]]:
    """Return the distances before and after exact steps, from the given one down to 1e-3 of it."""
    pairs = []
    for start, shorter in zip(starts, np.geomspace(1.0, 1e-3, len(starts)), strict=True):
        x = valley.x + distance * shorter * start
        first, second = course(valley, x, Method("exact"), steps=2)
        pairs.append((first.distance, second.distance))
    before, after = zip(*pairs, strict=True)
    return list(before), list(after)


def _outside(
    valley: KnownOptimum, radius: float, starts: np.ndarray, methods: Sequence[Method]
) -> dict[int, dict[str, list[float]]]:
    """Return, by start and method, the steps to the last goal in each way; infinite for none."""

    def count(multiple: int, way: np.ndarray, method: Method) -> float:
        steps = course(valley, valley.x + multiple * radius * way, method)
        return iterations(steps, DECADES[-1] * multiple * radius)

    return {
        multiple: {
            method.kind: [count(multiple, way, method) for way in starts] for method in methods
        }
        for multiple in MULTIPLES
    }


def _words(outside: Mapping[int, Mapping[str, Sequence[float]]]) -> str:
    """Say how far out the iteration still came to the optimum."""
    safe = [m for m, counts in outside.items() if max(map(max, counts.values())) < math.inf]
    lost = [m for m in outside if m not in safe]
    words = (
        f"All of them still came to x* from {safe[-1]} radii away" if safe else "None came to x*"
    )
    return f"{words}; from {lost[0]} not all did." if lost else f"{words}."


def _outside_table(
    outside: Mapping[int, Mapping[str, Sequence[float]]], methods: Sequence[Method]
) -> Table:
    def cell(counts: Sequence[float]) -> str:
        arrived = [count for count in counts if count < math.inf]
        if not arrived:
            return "never"
        return f"{number(float(np.median(arrived)))} ({len(arrived)} of {len(counts)})"

    return Table(
        "Steps to 1e-10 of the first distance (median of those that came to x*)",
        ("start, in radii", *(method.kind for method in methods)),
        [(m, *map(cell, counts.values())) for m, counts in outside.items()],
    )


def _solver_reads(data: Synthetic, goals: Sequence[float], seed: int) -> list[float]:
    """Return what `dresoftmax.solve` reads, divided by n, to come as near from x = 0."""
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
        "Iterations to ε from within the radius, the number derived for each from its ε₀, and "
        "rows read / n by dresoftmax.solve from x = 0",
        ("ε / first distance", "paper", *names, "solve"),
        list(zip(DECADES, stated, *columns, reads, strict=True)),
    )


def _decay(courses: Mapping[str, Sequence[Step]], stated: Sequence[float]) -> Picture:
    curves = [
        Curve(kind, range(len(steps)), [step.distance / steps[0].distance for step in steps], "-")
        for kind, steps in courses.items()
    ]
    theorem = Curve("theorem", [0.0, *stated], [1.0, *DECADES], "--")
    return Picture(
        "From within the theorem's radius", "iteration", "‖x − x*‖ / first", [*curves, theorem]
    )
