"""Experiment (b): the Lipschitz constant of the Hessian, observed and by the paper's bound.

The bound is 20 β⁻⁵ n^3.5 exp(8R²), with β a lower bound of α = Σu(Ax).  Its conditions could
not be found; here ‖A‖ = R, ‖x‖ ≤ R and ‖b‖ ≤ 1 ≤ R, the interpretation that makes it smallest.
β is a proven bound: n if the columns of A have mean zero (Jensen), else Σu(−‖aᵢ‖R), because
exp(z) + z increases.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dresoftmax.model.units import UNITS
from dresoftmax.problem import open_problem
from dresoftmax.theory import lipschitz_bound
from dresoftmax.theory.convergence import goodness_at
from dresoftmax.theory.lipschitz import estimate_within
from dresoftmax.verify.claims import Claim, Curve, Kind, Picture, Section, Source, Table, number
from dresoftmax.verify.problems import directions

__all__ = ["experiment"]

UNIT = "exp+linear"
COLUMNS, PAIRS = 3, 8
TARGETS = ("f(x*)", "on one row")
# How far z goes below zero in the problems with a small α; u is zero at −0.567.
DEPTH = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """The observed constants of one problem, and the bound.

    Attributes
    ----------
    columns : {"centred", "one-sided"}
        Whether the columns of A have mean zero, or one is constant so that α can be small.
    target : {"f(x*)", "on one row"}
        The kind of b.
    n : int
    R, beta : float
    random, adversarial, bound : float
        Lipschitz constants.
    distance, radius, radius_by_bound : float
        ‖x*‖, and 0.1·l/M with M as observed and M from the bound; NaN if x* is unknown.
    """

    columns: str
    target: str
    n: int
    R: float
    beta: float
    random: float
    adversarial: float
    bound: float
    distance: float
    radius: float
    radius_by_bound: float

    @property
    def observed(self) -> float:
        """The larger of the two observed constants."""
        return max(self.random, self.adversarial)

    @property
    def orders(self) -> float:
        """The bound divided by the observed constant, in powers of ten."""
        return math.log10(self.bound / self.observed)


def experiment(
    seed: int,
    *,
    rows: Sequence[int] = (6, 20, 200, 2000),
    radii: Sequence[float] = (1.0, 1.5, 2.0, 3.0),
) -> Section:
    """Return the comparison of the observed constant with the bound, over n, β and R."""
    rng = np.random.default_rng([seed, 2])
    cases = [
        _case(_centred(n, R, rng), "centred", target, R, float(n), rng)
        for n, R, target in itertools.product(rows, radii, TARGETS)
    ]
    for n, target in itertools.product(rows, TARGETS):
        R = math.sqrt(DEPTH * math.sqrt(n))
        A = _one_sided(n, R, rng)
        lowest = UNITS[UNIT].scaled(-R * np.linalg.norm(A, axis=1), 0.0)[0]
        cases.append(_case(A, "one-sided", target, R, float(lowest.sum()), rng))
    orders = [case.orders for case in cases]
    known = [case for case in cases if not math.isnan(case.radius)]
    covered = sum(case.distance <= case.radius_by_bound for case in known)
    smallest = min(known, key=lambda case: case.radius_by_bound)
    return Section(
        "(b) The Lipschitz constant of the Hessian",
        f"Unit {UNIT}, d = {COLUMNS}, ‖A‖ = R, within the ball ‖x‖ ≤ R. Centred columns keep "
        "α ≥ β = n; with a constant column α can become small, and R is chosen so that it does. "
        "b is f(x*) with ‖x*‖ = R, or all on one row. The observed constant is the largest "
        f"difference quotient of {PAIRS} random pairs, and of the close pairs of a local search.",
        [
            f"The bound holds, and is vacuous: it lies {min(orders):.1f} to {max(orders):.1f} "
            "orders of magnitude above the observed constant.",
            "With M from the bound, the smallest radius of the convergence theorem is "
            f"{number(smallest.radius_by_bound)}; with the observed M it is "
            f"{number(smallest.radius)} in the same problem, and ‖x*‖ = "
            f"{number(smallest.distance)}.",
        ],
        [
            Claim(
                "The observed Lipschitz constant is at most 20 β⁻⁵ n^3.5 exp(8R²)",
                Source.PAPER,
                min(orders) >= 0.0,
                f"{min(orders):.1f} to {max(orders):.1f} orders of magnitude below it, in "
                f"{len(cases)} problems",
            ),
            Claim(
                "The bound is useful: with it as M the convergence theorem covers the start x0 = 0",
                Source.DERIVED,
                covered == len(known),
                f"in {covered} of {len(known)} problems; least radius / ‖x*‖ = "
                f"{number(min(case.radius_by_bound / case.distance for case in known))}",
                Kind.STATED,
            ),
        ],
        [_table(cases)],
        [_by_radius(cases, rows, radii), _by_rows(cases, rows, radii[0])],
    )


def _centred(n: int, R: float, rng: np.random.Generator) -> np.ndarray:
    A = rng.standard_normal((n, COLUMNS))
    return _scaled(A - A.mean(axis=0), R)


def _one_sided(n: int, R: float, rng: np.random.Generator) -> np.ndarray:
    A = 0.1 * rng.standard_normal((n, COLUMNS))
    A[:, 0] = 1.0
    return _scaled(A, R)


def _scaled(A: np.ndarray, norm: float) -> np.ndarray:
    return A * (norm / np.linalg.norm(A, ord=2))


def _case(
    A: np.ndarray, columns: str, target: str, R: float, beta: float, rng: np.random.Generator
) -> Case:
    n = len(A)
    x = R * directions(COLUMNS, 1, rng)[0]
    b = np.eye(n)[0]
    if target == "f(x*)":
        u = UNITS[UNIT].scaled(A @ x, 0.0)[0]
        b = u / u.sum()
    bound = lipschitz_bound(beta, R, n)
    distance = radius = by_bound = math.nan
    with open_problem(A, b, unit=UNIT) as problem:
        seen = estimate_within(problem, np.zeros(COLUMNS), R, PAIRS, int(rng.integers(1 << 31)))
        if target == "f(x*)":
            good = goodness_at(problem, x)
            distance, radius, by_bound = good.distance, good.radius, 0.1 * good.l / bound
    return Case(
        columns, target, n, R, beta, seen.random, seen.adversarial, bound, distance, radius,
        by_bound,
    )  # fmt: skip


def _table(cases: Sequence[Case]) -> Table:
    return Table(
        "Lipschitz constants, observed and by the bound; radius of the convergence theorem",
        (
            "columns", "b", "n", "R", "β", "random", "adversarial", "bound", "orders between",
            "radius", "radius by bound",
        ),
        [
            (
                case.columns, case.target, case.n, case.R, case.beta, case.random,
                case.adversarial, case.bound, f"{case.orders:.1f}", case.radius,
                case.radius_by_bound,
            )
            for case in cases
        ],
    )  # fmt: skip


def _by_radius(cases: Sequence[Case], rows: Sequence[int], radii: Sequence[float]) -> Picture:
    def least(n: int, R: float) -> float:
        here = ("centred", n, R)
        return min(10.0**case.orders for case in cases if (case.columns, case.n, case.R) == here)

    return Picture(
        "The bound divided by the observed constant; centred columns", "R", "bound / observed",
        [Curve(f"n = {n:,}", radii, [least(n, R) for R in radii], "-") for n in rows],
    )  # fmt: skip


def _by_rows(cases: Sequence[Case], rows: Sequence[int], R: float) -> Picture:
    def largest(name: str, target: str) -> list[float]:
        keys = [("centred", n, R, target) for n in rows]
        found = {(case.columns, case.n, case.R, case.target): getattr(case, name) for case in cases}
        return [found[key] for key in keys]

    return Picture(
        f"Lipschitz constants by rows, R = {number(R)}; centred columns, so that β = n", "n",
        "Lipschitz constant",
        [
            *(
                Curve(f"{name}, {target}", rows, largest(name, target), "-")
                for target in TARGETS
                for name in ("random", "adversarial")
            ),
            Curve("bound", rows, largest("bound", TARGETS[0]), "--"),
        ],
        log="xy",
    )  # fmt: skip
