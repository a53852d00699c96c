"""The plain Newton iteration x ← x − Ĥ⁻¹∇L(x), without safeguards, as theorems describe it.

It has no trust region, no line search and no sampling of rows.  Ĥ is the Hessian, or its sketch
of a given kind and size; the gradient is exact.  The optimum is known, and each step is measured
against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg as la

from dresoftmax.optimize.objective import Draw
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.whitening import Whitening
from dresoftmax.problem import Problem
from dresoftmax.theory.sketches import relative_error
from dresoftmax.verify.problems import Synthetic

__all__ = [
    "KINDS",
    "KnownOptimum",
    "Method",
    "Step",
    "iterations",
    "newton_iterates",
    "rate",
]

KINDS = ("leverage", "uniform", "countsketch")
STEPS = 40
# Rounding error of ‖x − x*‖, relative to ‖x*‖; distances above this multiple are measurable.
ROUNDING, MEASURABLE = 1e-14, 100.0


@dataclass(frozen=True, slots=True)
class Method:
    """The Hessian that a step uses: a kind of `dresoftmax.solve`, its rows m and its seed."""

    kind: str
    size: int = 0
    seed: int = 0


@dataclass(frozen=True)
class KnownOptimum:
    """A problem whose optimum x is known, with the norms that distances are measured in."""

    problem: Problem
    x: np.ndarray
    whitening: Whitening

    @classmethod
    def of(cls, problem: Problem, data: Synthetic) -> KnownOptimum:
        """Return the optimum of an open problem that was made from `data`."""
        return cls(problem, data.x, Whitening.from_gram(data.A.T @ data.A / len(data.b)))

    @cached_property
    def hessian(self) -> np.ndarray:
        """∇²L(x*)."""
        return self.problem.evaluate(self.x).hessian

    def distance(self, x: np.ndarray) -> float:
        """Return ‖x − x*‖₂."""
        return float(la.norm(x - self.x))

    def energy(self, x: np.ndarray) -> float:
        """Return ‖x − x*‖ in the norm of ∇²L(x*)."""
        e = x - self.x
        return math.sqrt(max(float(e @ self.hessian @ e), 0.0))

    @property
    def floor(self) -> float:
        """The distance below which iterates differ from x* only by rounding."""
        return ROUNDING * float(la.norm(self.x))


@dataclass(frozen=True, slots=True)
class Step:
    """A point of an iteration, and the step from it to the next.

    Attributes
    ----------
    distance : float
        ‖x − x*‖₂.
    spectral_error : float
        ε₀ of the sketch at x: the largest |μ − 1| with Ĥy = μ∇²L(x)y; infinite if ∇²L(x) is
        not positive definite.
    contraction : float
        ‖x₊ − x*‖/‖x − x*‖ in the norm of ∇²L(x*); NaN if x₊ is the optimum up to rounding, or
        if x is, so that no step follows.
    """

    distance: float
    spectral_error: float
    contraction: float


def newton_iterates(
    optimum: KnownOptimum, x: np.ndarray, method: Method, steps: int = STEPS
) -> list[Step]:
    """Iterate from `x` until the optimum is reached, the domain left, or all steps taken."""
    objective = optimum.problem.objective(method.kind, float(method.size), method.seed)
    taken, draw = [], Draw()
    for _ in range(steps):
        distance = optimum.distance(x)
        if distance <= optimum.floor:
            taken.append(Step(distance, 0.0, math.nan))
            break
        (found,) = optimum.problem.trials([x])
        if found is None:
            break
        H = found.hessian
        if method.kind != "exact":
            metric = QuadraticModel(found.gradient, H, optimum.whitening, 0.0)
            read = objective.evaluate([found.point], draw=draw, metric=metric)
            (sketched,), draw = read.evaluations, read.draw
            assert sketched is not None, "it is at its own point"
            H = sketched.hessian
        onward = x - la.lstsq(H, found.gradient)[0]
        measurable = optimum.distance(onward) > MEASURABLE * optimum.floor
        taken.append(
            Step(
                distance,
                _spectral_error(found.hessian, H),
                optimum.energy(onward) / optimum.energy(x) if measurable else math.nan,
            )
        )
        x = onward
    return taken


def _spectral_error(H: np.ndarray, sketched: np.ndarray) -> float:
    try:
        return relative_error(sketched, H)
    except ValueError:
        return math.inf


def iterations(steps: Sequence[Step], goal: float) -> float:
    """Return the number of steps until the distance is at most `goal`; infinite if never."""
    return next((k for k, step in enumerate(steps) if step.distance <= goal), math.inf)


def rate(steps: Iterable[Step]) -> float:
    """Return the geometric mean of the measured contractions."""
    seen = [step.contraction for step in steps if step.contraction > 0.0]
    return float(np.exp(np.mean(np.log(seen)))) if seen else math.nan
