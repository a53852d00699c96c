"""When to stop, and what to believe: doubts, what can be foreseen, and the end.

A decrement below the target is convergence only if the Hessian can be
trusted and has seen all of the gradient; and a long way gone for no gain leads
to infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg as la

from dresoftmax.model.evaluation import Evaluation
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.result import Status

__all__ = ["RecentSteps", "Termination", "is_reliable"]

# Most relative error of the curvature.
DOUBT = 0.5
# x runs to infinity if, over so many steps, z moves by more than FAR (RMS) and
# the loss falls by less than FLAT·scale².
WINDOW, FAR, FLAT = 6, 1.0, 1e-8
# Steps at the level of rounding errors that do not improve the decrement, before
# giving up; with a sketch the decrement is a random one, and falls by fits and starts.
STALLS, SKETCH_STALLS = 5, 20
# Steps shorter than this are lost in rounding errors.
LEAST_RADIUS = 1e-14
# A decrement is foreseen with this margin, and never below rounding errors, as part of
# the scale; it is not foreseen if the target is too near to them.
MARGIN, ROUNDING, LEAST_FORESEEN = 20.0, 1e-14, 1e-11


@dataclass(frozen=True, slots=True)
class RecentSteps:
    """The last steps of an iteration, as far as its end depends on them.

    Attributes
    ----------
    steps, losses : tuple
        The last steps, and the losses that they led to.
    best : float
        The least decrement so far.
    stalls : int
        How many of the last steps gained nothing that can be seen.
    """

    steps: tuple[np.ndarray, ...] = ()
    losses: tuple[float, ...] = ()
    best: float = math.inf
    stalls: int = 0

    def after(self, y: np.ndarray, loss: float, decrement: float, *, hidden: bool) -> RecentSteps:
        """Return the record after a step y to a point; `hidden` if rounding hides its gain."""
        better = decrement < 0.9 * self.best
        return replace(
            self,
            steps=(*self.steps, y)[-WINDOW:],
            losses=(*self.losses, loss)[-WINDOW:],
            best=min(decrement, self.best),
            stalls=self.stalls + 1 if hidden and not better else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """The conditions under which an iteration ends.

    Attributes
    ----------
    target : float
        Decrement at which the iteration has converged.
    scale : float
        What decrements are relative to, see `Loss.scale`.
    max_iter : int
    sketched : bool
        Whether Hessians are sketched.
    least_radius : float
        Smallest trust radius that is worth a step.
    law : {"none", "linear", "quadratic"}
        By which law the decrement falls, if it can be foreseen, so that a last read is saved.
    """

    target: float
    scale: float
    max_iter: int
    sketched: bool = False
    least_radius: float = LEAST_RADIUS
    law: str = "none"

    def foresee(self, before: float, last: float) -> float:
        """Return a bound on the decrement after one more Newton step, infinite if unknown.

        The decrement has fallen from δ₋ = `before` to δ = `last`.  Newton's method goes
        on with Cδ², where C = δ/δ₋² or, in units of the scale, at least one; with a Hessian
        of another point it falls by δ/δ₋ once more.
        """
        unknown = self.law == "none" or self.target < LEAST_FORESEEN * self.scale
        if unknown or not math.isfinite(before):
            return math.inf
        bound = max(last / before**2, 1.0 / self.scale) * last**2
        if self.law == "linear":
            bound = max(bound, last * last / before)
        return MARGIN * max(bound, ROUNDING * self.scale)

    def has_converged(self, decrement: float, quadratic: QuadraticModel) -> bool:
        """Whether a decrement is small enough, and the Hessian has seen all of the gradient."""
        return decrement <= self.target and quadratic.unseen <= self.target * self.scale

    def verdict(
        self,
        iteration: int,
        decrement: float,
        quadratic: QuadraticModel,
        recent: RecentSteps,
        reach: float,
        *,
        stop: bool,
    ) -> Status | None:
        """Return why the iteration has to end here, or None."""
        if self._leads_away(recent):
            return Status.SOLUTION_AT_INFINITY
        if self.has_converged(decrement, quadratic):
            return Status.CONVERGED
        if stop:
            return Status.CALLBACK_STOP
        patience = SKETCH_STALLS if self.sketched else STALLS
        if recent.stalls >= patience or reach < self.least_radius:
            return Status.NUMERICAL_LIMIT
        if iteration >= self.max_iter:
            return Status.ITERATION_LIMIT
        return None

    def _leads_away(self, recent: RecentSteps) -> bool:
        if len(recent.steps) < WINDOW:
            return False
        fallen = recent.losses[0] - recent.losses[-1]
        return bool(fallen <= FLAT * self.scale**2 and la.norm(sum(recent.steps)) >= FAR)


def is_reliable(evaluation: Evaluation, quadratic: QuadraticModel, target: float) -> bool:
    """Whether α and κ were predicted well enough for the Hessian to be of use.

    Their errors are relative ones of G.  If the loss is flat, ∇²L is a small
    difference of G and the other terms, and may consist of these errors alone:
    the decrement could then be anything.  Along the Newton step they have to be
    smaller than ∇²L, and for a claim of convergence in every direction.
    """
    if not 0.5 <= evaluation.total <= 2.0:
        return False
    if quadratic.newton is None:
        return True
    step = quadratic.whitening.basis @ quadratic.newton
    curvature = abs(step @ evaluation.gram @ step)
    if evaluation.doubt * curvature > DOUBT * quadratic.decrement**2:
        return False
    doubt = evaluation.doubt
    return quadratic.decrement > target or doubt * quadratic.largest(evaluation.gram) <= DOUBT
