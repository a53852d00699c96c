"""Experiment (d): the contraction of a sketched step, by ε₀ and by the rows of the sketch.

With δ = M‖x − x*‖/l and (1 − ε₀)H ⪯ Ĥ ⪯ (1 + ε₀)H at x, a step contracts the distance, in the
norm of ∇²L(x*), by a factor of at most

    (ε₀(1 + δ) + δ/2) / ((1 − ε₀)(1 − δ));

`dresoftmax.theory.convergence` has the derivation.  A random sketch of m rows has ε₀ of the
order of √(d log d/m); its effect on a single vector is about √(d/m).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from dresoftmax.problem import open_problem
from dresoftmax.theory import Goodness
from dresoftmax.theory.convergence import goodness_at
from dresoftmax.verify.claims import Claim, Curve, Kind, Picture, Section, Source, Table, number
from dresoftmax.verify.newton_iteration import (
    KINDS,
    KnownOptimum,
    Method,
    Step,
    newton_iterates,
    rate,
)
from dresoftmax.verify.problems import directions, synthetic

__all__ = ["experiment"]

# RMS of z at the optimum; with the second one, few rows have most of the curvature.
SPREADS = (0.5, 1.0)
# Exponents of m that count as −1/2.
HALF = (-0.8, -0.3)
STEPS = 4

Steps = Mapping[tuple[str, int], Sequence[Step]]


def experiment(
    seed: int, *, n: int = 40_000, d: int = 8, sizes: Sequence[int] = (256, 512, 1024, 2048, 4096),
    ways: int = 6,
) -> Section:  # fmt: skip
    """Return contractions and spectral errors of all kinds of sketches, of these `sizes`.

    `ways` is the number of directions from the optimum to a start.
    """
    (even, good), (uneven, _) = (_steps(seed, n, d, sizes, ways, spread) for spread in SPREADS)
    rates = {key: rate(steps) for key, steps in even.items()}
    slopes = {
        kind: float(np.polyfit(np.log(sizes), [math.log(rates[kind, m]) for m in sizes], 1)[0])
        for kind in KINDS
    }
    last = sizes[-1]
    worst = max(KINDS, key=lambda kind: rate(uneven[kind, last]))
    return Section(
        "(d) Sketches",
        f"A problem as in (c), n = {n:,} and d = {d}, from {ways} starts at 0.3 of the theorem's "
        f"radius, {STEPS} steps each with sketches of {sizes[0]:,} to {last:,} rows. ε₀ comes "
        "from the generalised eigenvalues of the same sketch that a step uses. A second problem "
        f"differs in the spread of z over the rows, {SPREADS[1]} instead of {SPREADS[0]}, so that "
        "few rows have most of the curvature.",
        [
            f"A step with {last:,} rows leaves "
            + ", ".join(f"{number(rates[kind, last])} ({kind})" for kind in KINDS)
            + f" of the distance; √(d/m) is {number(math.sqrt(d / last))}.",
            f"If z has a spread of {SPREADS[1]}, {worst} sketches of {last:,} rows leave "
            f"{number(rate(uneven[worst, last]))} of the distance.",
        ],
        [
            _bounded([step for steps in even.values() for step in steps], good),
            *(
                Claim(
                    f"The contraction of {kind} sketches falls like √(d/m): the exponent of m is "
                    f"between {number(HALF[0])} and {number(HALF[1])}",
                    Source.DERIVED,
                    HALF[0] <= slope <= HALF[1],
                    f"exponent {number(slope)}",
                    Kind.STATED if kind == "countsketch" else Kind.REQUIRED,
                )
                for kind, slope in slopes.items()
            ),
        ],
        [_by_size(even, d, sizes), _by_spread(even, uneven, last)],
        [_rates_picture(rates, d, sizes), _bound_picture(even, good)],
    )


def _steps(
    seed: int, n: int, d: int, sizes: Sequence[int], ways: int, spread: float
) -> tuple[Steps, Goodness]:
    rng = np.random.default_rng([seed, 4])
    data = synthetic(n, d, 3.0, "exp+linear", rng, size=spread)
    starts = directions(d, ways, rng)
    with open_problem(data.A, data.b, unit=data.unit) as problem:
        optimum = KnownOptimum.of(problem, data)
        good = goodness_at(problem, data.x, np.zeros(d))
        steps = {
            (kind, m): [
                step
                for way, start in enumerate(starts)
                for step in newton_iterates(
                    optimum, data.x + 0.3 * good.radius * start, Method(kind, m, seed + way), STEPS
                )
            ]
            for kind in KINDS
            for m in sizes
        }
    return steps, good


def _bound(step: Step, good: Goodness) -> float:
    """Return the bound of the contraction of a step; infinite if there is none."""
    try:
        # In a single step the Euclidean distance bounds the change of the Hessian.
        return replace(good, reach=step.distance).contraction(step.spectral_error)
    except ValueError:
        return math.inf


def _beside_bound(steps: Iterable[Step], good: Goodness) -> list[tuple[float, float]]:
    """Return the bound and the contraction of each step that has both."""
    pairs = [(_bound(step, good), step.contraction) for step in steps]
    return [(bound, seen) for bound, seen in pairs if bound < math.inf and seen > 0.0]


def _bounded(steps: Sequence[Step], good: Goodness) -> Claim:
    shares = [contraction / bound for bound, contraction in _beside_bound(steps, good)]
    return Claim(
        "Within the radius a step leaves at most (ε₀(1 + δ) + δ/2)/((1 − ε₀)(1 − δ)) of the "
        "distance in the norm of ∇²L(x*), if that bound is below 1",
        Source.DERIVED,
        max(shares) <= 1.0,
        f"at most {number(max(shares))} of the bound (median {number(float(np.median(shares)))}), "
        f"in {len(shares)} of {len(steps)} steps",
    )


def _by_size(steps: Steps, d: int, sizes: Sequence[int]) -> Table:
    rows = []
    for kind in KINDS:
        for m in sizes:
            errors = [step.spectral_error for step in steps[kind, m]]
            rows.append(
                (
                    kind, m, float(np.median(errors)), max(errors),
                    math.sqrt(d * math.log(d) / m), rate(steps[kind, m]), math.sqrt(d / m),
                )
            )  # fmt: skip
    return Table(
        "Spectral error and contraction by the rows of the sketch",
        ("sketch", "rows m", "ε₀, median", "ε₀, largest", "√(d·log d/m)", "contraction", "√(d/m)"),
        rows,
    )


def _by_spread(even: Steps, uneven: Steps, m: int) -> Table:
    def median(steps: Sequence[Step]) -> float:
        return float(np.median([step.spectral_error for step in steps]))

    return Table(
        f"Sketches of {m:,} rows by the spread of z over the rows of A",
        (
            "sketch",
            *(f"{name}, spread {spread}" for name in ("ε₀", "contraction") for spread in SPREADS),
        ),
        [
            (kind, *map(median, pair), *map(rate, pair))
            for kind in KINDS
            for pair in [(even[kind, m], uneven[kind, m])]
        ],
    )


def _rates_picture(rates: Mapping[tuple[str, int], float], d: int, sizes: Sequence[int]) -> Picture:
    curves = [Curve(kind, sizes, [rates[kind, m] for m in sizes], "-") for kind in KINDS]
    law = Curve("√(d/m)", sizes, [math.sqrt(d / m) for m in sizes], "--")
    return Picture(
        "Contraction by the rows of the sketch", "rows m of the sketch", "contraction a step",
        [*curves, law], log="xy",
    )  # fmt: skip


def _bound_picture(steps: Steps, good: Goodness) -> Picture:
    curves = []
    for kind in KINDS:
        each = [step for (other, _), taken in steps.items() if other == kind for step in taken]
        bounds, contractions = zip(*_beside_bound(each, good), strict=True)
        curves.append(Curve(kind, bounds, contractions))
    ends = [f(x for curve in curves for x in curve.x) for f in (min, max)]
    return Picture(
        "Contraction against its bound", "bound, from ε₀ and δ", "contraction of a step",
        [*curves, Curve("bound", ends, ends, "--")], log="xy",
    )  # fmt: skip
