"""Experiment (a): the parts of the Hessian, and whether it is positive semidefinite.

    ∇²L = Aᵀ(B_mat + B_rank + B_diag + W²)A + λI

Three things are compared over a grid of small problems: the sum of the parts with the Hessian
that the solver reads and with differences of the loss; the eigenvalues of each part with its
bounds; and the smallest eigenvalue of ∇²L with zero, without w and with the w that the bounds
require.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dresoftmax.verify.claims import Claim, Curve, Kind, Picture, Section, Source, Table, number
from dresoftmax.verify.hessian_cases import GOAL, PARTS, Case, cases_of
from dresoftmax.verify.problems import synthetic

__all__ = ["Grid", "experiment"]

# Tolerances, relative to the largest entry, for two orders of summation and for finite
# differences; and the tolerance relative to the bounds of a part.
ROUNDING, DIFFERENCES, OF_BOUNDS = 1e-9, 1e-6, 1e-10
# Eigenvalues smaller than this, relative to the norm, have no reliable sign.
SIGN = 1e-12
# Standard deviation of the noise of b, relative to its entries.
NOISE = 0.1


@dataclass(frozen=True, slots=True)
class Grid:
    """The settings that are combined with each other.

    `distances` are from the point that b was computed at, as the RMS change of z.  `weights`
    are w in units of ‖b‖, because the terms that w² is added to are of the order of ‖b‖².
    """

    units: Sequence[str] = ("exp+linear", "exp", "cosh")
    rows: Sequence[int] = (24, 96)
    columns: Sequence[int] = (2, 6)
    conditions: Sequence[float] = (1.0, 10.0, 100.0)
    distances: Sequence[float] = (0.0, 0.1, 0.3, 1.0, 2.0, 3.0)
    weights: Sequence[float] = (0.0, 0.3)


def experiment(seed: int, grid: Grid = Grid()) -> Section:
    """Return the claims on the parts and the sign of the Hessian over a grid of problems."""
    rng = np.random.default_rng([seed, 1])
    cases = [
        case
        for unit, n, d, cond, weight in itertools.product(
            grid.units, grid.rows, grid.columns, grid.conditions, grid.weights
        )
        for case in cases_of(
            synthetic(n, d, cond, unit, rng, noise=NOISE), weight, grid.distances, rng
        )
    ]
    free = [case for case in cases if not case.weight]
    indefinite = [case for case in free if case.sign < -SIGN]
    worst = min(free, key=lambda case: case.sign)
    ratios = [case.derived / case.needed for case in free if case.needed]
    count = len(cases)
    return Section(
        "(a) The parts of the Hessian",
        f"{count} points: units {', '.join(grid.units)}; n of {_list(grid.rows)}; d of "
        f"{_list(grid.columns)}; cond(A) of {_list(grid.conditions)}; at distances (RMS change of "
        f"z) of {_list(grid.distances)} from the point that b was computed at, with noise of "
        f"{NOISE:.0%}; w of {_list(grid.weights)} times ‖b‖. The n×n parts are formed here from "
        "their formulas, and the Hessian also by finite differences of the loss.",
        [
            f"Without w the Hessian is not positive semidefinite at {len(indefinite)} of "
            f"{len(free)} points. The smallest λ_min/‖∇²L‖ is {number(worst.sign)}, at a distance "
            f"of {number(worst.distance)}.",
            "The w that the bounds require always suffices. "
            + (
                f"It is {number(float(np.median(ratios)))} times the w needed (median; at least "
                f"{number(min(ratios))}, at most {number(max(ratios))})."
                if ratios
                else "No point needed a w."
            ),
        ],
        [
            _largest(
                cases, "The parts add up to the Hessian that the solver's fused read returns",
                Source.DERIVED, lambda case: case.read_error, ROUNDING,
            ),
            _largest(
                cases, "The parts add up to the Hessian by finite differences of the loss",
                Source.PAPER, lambda case: case.loss_error, DIFFERENCES,
            ),
            _largest(
                cases, "Products and images of the structured parts equal those of n×n matrices",
                Source.DERIVED, lambda case: case.dense_error, OF_BOUNDS,
            ),
            _largest(
                cases, "The eigenvalues of B_mat, B_rank, B_diag and W² lie within their bounds",
                Source.REPLACED, lambda case: case.overstepped, ROUNDING,
            ),
            Claim(
                "The Hessian is positive semidefinite, without w",
                Source.PAPER,
                not indefinite,
                f"not at {len(indefinite)} of {len(free)} points; least λ_min/‖∇²L‖ = "
                f"{number(worst.sign)}",
                Kind.STATED,
            ),
            Claim(
                "The smallest eigenvalue is at least the bound of the certificate",
                Source.DERIVED,
                all(case.smallest - case.bound >= -SIGN * case.norm for case in cases),
                f"at {sum(case.smallest >= case.bound for case in cases)} of {count} points",
            ),
            Claim(
                "With the derived w the Hessian is positive semidefinite",
                Source.REPLACED,
                all(case.left >= -SIGN for case in free),
                f"least λ_min/‖∇²L‖ = {number(min(case.left for case in free))} at "
                f"{len(free)} points",
            ),
            Claim(
                f"With the derived w for l = {GOAL}·‖∇²L‖, ∇²L ⪰ l·I",
                Source.REPLACED,
                all(case.left_above >= -SIGN for case in free),
                f"least (λ_min − l)/‖∇²L‖ = {number(min(case.left_above for case in free))} at "
                f"{len(free)} points",
            ),
        ],
        [_by_distance(cases, grid), _slack(cases)],
        [_signs(free, grid), _weights(free)],
    )  # fmt: skip


def _largest(
    cases: Sequence[Case], text: str, source: Source, error: Callable[[Case], float], limit: float
) -> Claim:
    """Return the claim that an error is at most `limit` in all cases."""
    largest = max(map(error, cases))
    evidence = f"largest relative error {number(largest)} at {len(cases)} points"
    return Claim(text, source, largest <= limit, evidence)


def _by_distance(cases: Sequence[Case], grid: Grid) -> Table:
    rows = []
    for distance, weight in itertools.product(grid.distances, grid.weights):
        here = [case for case in cases if (case.distance, case.weight) == (distance, weight)]
        signs = [case.sign for case in here]
        needed = [case.needed for case in here if case.needed]
        ratios = [case.derived / case.needed for case in here if case.needed]
        rows.append(
            (
                distance, weight, len(here), sum(sign < -SIGN for sign in signs), min(signs),
                float(np.median(needed)) if needed and not weight else math.nan,
                float(np.median(ratios)) if ratios and not weight else math.nan,
            )
        )  # fmt: skip
    return Table(
        "The sign of the Hessian by distance and w (in units of ‖b‖); medians if w is needed",
        (
            "distance", "w", "points", "indefinite", "least λ_min/‖∇²L‖", "w needed",
            "w derived / needed",
        ),
        rows,
    )  # fmt: skip


def _slack(cases: Sequence[Case]) -> Table:
    rows = []
    for name, slacks in zip(PARTS, zip(*(case.slack for case in cases), strict=True), strict=True):
        known = [slack for slack in slacks if not math.isnan(slack)]
        if known:
            rows.append((name, float(np.median(known)), max(known)))
    return Table(
        "Width of a part's bounds, divided by the range of its eigenvalues",
        ("part", "median", "largest"),
        rows,
    )


def _signs(cases: Sequence[Case], grid: Grid) -> Picture:
    curves = []
    for unit in grid.units:
        here = [case for case in cases if case.unit == unit]
        curves.append(Curve(unit, [case.distance for case in here], [case.sign for case in here]))
    zero = Curve("zero", [min(grid.distances), max(grid.distances)], [0.0, 0.0], "--")
    return Picture(
        "The smallest eigenvalue without w", "distance from the optimum, RMS change of z",
        "λ_min/‖∇²L‖", [*curves, zero], log="",
    )  # fmt: skip


def _weights(cases: Sequence[Case]) -> Picture:
    pairs = [(case.needed, case.derived) for case in cases if case.needed]
    needed = [pair[0] for pair in pairs]
    ends = [min(needed, default=1.0), max(needed, default=1.0)]
    return Picture(
        "The w that makes the Hessian positive semidefinite", "w needed / ‖b‖", "w derived / ‖b‖",
        [Curve("points", needed, [pair[1] for pair in pairs]), Curve("needed", ends, ends, "--")],
        log="xy",
    )  # fmt: skip


def _list(values: Sequence[float]) -> str:
    return ", ".join(map(number, values))
