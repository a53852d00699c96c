"""Experiment (e): the norm in which an approximate Newton step contracts.

The theorem, as ascribed to the paper, is about the Euclidean norm.  With
(1 − ε₀)H ⪯ Ĥ ⪯ (1 + ε₀)H the error Ĥ⁻¹(Ĥ − H)(x − x*) is small in the norm of H.  In the
Euclidean norm it may be larger by a factor of √cond(H), if an error along an eigenvector of
large curvature moves x along one of small curvature.  Here x − x* is the eigenvector of ∇²L(x*)
with the largest eigenvalue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dresoftmax.problem import open_problem
from dresoftmax.theory.convergence import goodness_at
from dresoftmax.verify.claims import Claim, Curve, Kind, Picture, Section, Source, Table, number
from dresoftmax.verify.newton_iteration import KINDS, KnownOptimum, Method, newton_iterates
from dresoftmax.verify.problems import synthetic

__all__ = ["experiment"]

CONDITIONS = (1.0, 10.0, 100.0)
# The theorem's ε₀ and contraction.
SPECTRAL_ERROR, CONTRACTION = 0.1, 0.4
# Distance of the start, in radii; in the norm of ∇²L(x*) this direction is the longest.
SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """One step: its sketch, the condition of A, ε₀, and its contraction in both norms."""

    kind: str
    condition: float
    spectral_error: float
    euclidean: float
    energy: float


def experiment(seed: int, *, n: int = 20_000, d: int = 8, draws: int = 6) -> Section:
    """Return contractions in both norms, over `draws` sketches of each kind with half the rows."""
    cases = [case for condition in CONDITIONS for case in _steps(seed, n, d, condition, draws)]
    covered = [case for case in cases if case.spectral_error <= SPECTRAL_ERROR]
    euclidean = max(case.euclidean for case in covered)
    energy = max(case.energy for case in covered)
    broken = sum(case.euclidean > CONTRACTION for case in covered)
    return Section(
        "(e) The norm of the theorem",
        f"b = f(x*), n = {n:,}, d = {d}, cond(A) of {', '.join(map(number, CONDITIONS))}. x − x* "
        f"is a leading eigenvector of ∇²L(x*), {SHARE} of the theorem's radius long. One step is "
        f"taken with each of {draws} sketches of each kind, of {n // 2:,} rows.",
        [
            f"The theorem covers {len(covered)} steps: within the radius, with ε₀ ≤ "
            f"{SPECTRAL_ERROR}. In {broken} of them more than {CONTRACTION} of the Euclidean "
            f"distance was left, at most {number(euclidean)} times it; in the norm of ∇²L(x*) at "
            f"most {number(energy)}."
        ],
        [
            Claim(
                f"Within the radius and with ε₀ ≤ {SPECTRAL_ERROR}, a step leaves at most "
                f"{CONTRACTION} of the Euclidean distance",
                Source.ASCRIBED,
                broken == 0,
                f"up to {number(euclidean)}; above it in {broken} of {len(covered)} steps",
                Kind.STATED,
            ),
            Claim(
                f"Within the radius and with ε₀ ≤ {SPECTRAL_ERROR}, a step leaves at most "
                f"{CONTRACTION} of the distance in the norm of ∇²L(x*)",
                Source.DERIVED,
                energy <= CONTRACTION,
                f"up to {number(energy)} in {len(covered)} steps",
            ),
        ],
        [_table(cases)],
        [_picture(cases)],
    )


def _steps(seed: int, n: int, d: int, condition: float, draws: int) -> list[Case]:
    rng = np.random.default_rng([seed, 5])
    data = synthetic(n, d, condition, "exp+linear", rng, size=0.5)
    with open_problem(data.A, data.b, unit=data.unit) as problem:
        optimum = KnownOptimum.of(problem, data)
        radius = goodness_at(problem, data.x, data.x).radius
        stiffest = np.linalg.eigh(optimum.hessian)[1][:, -1]
        start = data.x + SHARE * radius * stiffest
        cases = []
        for kind in KINDS:
            for draw in range(draws):
                before, after = newton_iterates(
                    optimum, start, Method(kind, n // 2, seed + draw), steps=2
                )
                left = after.distance / before.distance
                cases.append(Case(kind, condition, before.spectral_error, left, before.contraction))
    return cases


def _table(cases: list[Case]) -> Table:
    rows = []
    for condition in CONDITIONS:
        for kind in KINDS:
            here = [case for case in cases if (case.condition, case.kind) == (condition, kind)]
            rows.append(
                (
                    condition, kind, len(here), max(case.spectral_error for case in here),
                    max(case.euclidean for case in here), max(case.energy for case in here),
                )
            )  # fmt: skip
    return Table(
        "Largest ratio of the distances after and before a step",
        ("cond(A)", "sketch", "steps", "ε₀, largest", "Euclidean", "norm of ∇²L(x*)"),
        rows,
    )


def _picture(cases: list[Case]) -> Picture:
    def curve(name: str) -> Curve:
        return Curve(
            name, [case.condition for case in cases],
            [case.euclidean if name == "Euclidean" else case.energy for case in cases],
        )  # fmt: skip

    ends = [min(CONDITIONS), max(CONDITIONS)]
    limit = Curve("theorem", ends, [CONTRACTION] * 2, "--")
    return Picture(
        "Contraction of a step, by the condition of A", "cond(A)", "‖x₊ − x*‖ / ‖x − x*‖",
        [curve("Euclidean"), curve("norm of ∇²L(x*)"), limit], log="xy",
    )  # fmt: skip
