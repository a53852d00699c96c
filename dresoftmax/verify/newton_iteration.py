"""Newton's iteration in its plain form, x ← x − Ĥ⁻¹∇L(x), with nothing that would mend it.

There is no trust region, no search and no sample here: the iteration that theorems are
about.  Ĥ is the Hessian, or its sketch of a given kind and size; the gradient is exact.
Each step is measured against the optimum, which is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg as la

from dresoftmax.optimize.objective import TrialPoint
from dresoftmax.optimize.quadratic_model import QuadraticModel, Whitening
from dresoftmax.problem import Problem
from dresoftmax.theory.sketches import relative_error
from dresoftmax.verify.problems import Synthetic

__all__ = ["KINDS", "KnownOptimum", "Method", "Step", "course", "iterations", "rate"]

KINDS = ("leverage", "uniform", "countsketch")
STEPS = 40
# What rounding leaves of ‖x − x*‖, relative to ‖x*‖, and how much more counts as measured.
ROUNDING, MEASURABLE = 1e-14, 100.0


@dataclass(frozen=True, slots=True)
class Method:
    """Which Hessian a step takes: a kind of `dresoftmax.solve`, and its rows m."""

    kind: str
    size: int = 0
    seed: int = 0


@dataclass(frozen=True)
class KnownOptimum:
    """A problem and the optimum that its iterations go to."""

    problem: Problem
    x: np.ndarray
    metric: Whitening

    @classmethod
    def of(cls, problem: Problem, data: Synthetic) -> KnownOptimum:
        """Return the valley of an opened problem that was made from `data`."""
        return cls(problem, data.x, Whitening.from_gram(data.A.T @ data.A / len(data.b)))

    @cached_property
    def hessian(self) -> np.ndarray:
        """∇²L(x*)."""
        return self.problem.model(self.x).hessian

    def distance(self, x: np.ndarray) -> float:
        """Return ‖x − x*‖₂."""
        return float(la.norm(x - self.x))

    def energy(self, x: np.ndarray) -> float:
        """Return ‖x − x*‖ in the norm of ∇²L(x*)."""
        e = x - self.x
        return math.sqrt(max(float(e @ self.hessian @ e), 0.0))

    @property
    def floor(self) -> float:
        """Below this distance the iterates are rounding errors."""
        return ROUNDING * float(la.norm(self.x))


@dataclass(frozen=True, slots=True)
class Step:
    """A point of an iteration, and the step from it to the next.

    Attributes
    ----------
    distance : float
        ‖x − x*‖₂.
    spectral_error : float
        ε₀ of the sketch at x: the largest |μ − 1| with Ĥy = μ∇²L(x)y; infinite where ∇²L(x)
        is not positive definite.
    contraction : float
        ‖x₊ − x*‖/‖x − x*‖ in the norm of ∇²L(x*); NaN where x₊ has met the optimum up to
        rounding, or where there was no step any more.
    """

    distance: float
    spectral_error: float
    contraction: float


def course(valley: KnownOptimum, x: np.ndarray, method: Method, steps: int = STEPS) -> list[Step]:
    """Iterate from `x` until the optimum is met, or the domain left."""
    objective = valley.problem.objective(method.kind, float(method.size), method.seed)
    taken = []
    for _ in range(steps):
        distance = valley.distance(x)
        if distance <= valley.floor:
            taken.append(Step(distance, 0.0, math.nan))
            break
        (model,) = valley.problem.trials([x])
        if model is None:
            break
        H = model.hessian
        if method.kind != "exact":
            guide = QuadraticModel(model.gradient, H, valley.metric, 0.0)
            (sketched,) = objective.evaluate([TrialPoint.at(model)], guide).models
            assert sketched is not None, "it is at its own point"
            H = sketched.hessian
        onward = x - la.lstsq(H, model.gradient)[0]
        measurable = valley.distance(onward) > MEASURABLE * valley.floor
        taken.append(
            Step(
                distance,
                _spectral_error(model.hessian, H),
                valley.energy(onward) / valley.energy(x) if measurable else math.nan,
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
    """Return after how many steps the distance is at most `goal`; infinite where it never is."""
    return next((k for k, step in enumerate(steps) if step.distance <= goal), math.inf)


def rate(steps: Iterable[Step]) -> float:
    """Return the geometric mean of the contractions that were measured."""
    seen = [step.contraction for step in steps if step.contraction > 0.0]
    return float(np.exp(np.mean(np.log(seen)))) if seen else math.nan
