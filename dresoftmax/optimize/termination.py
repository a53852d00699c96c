"""When to stop, and what to believe: rounding errors, doubts, and the end.

A decrement below the target is convergence only where the Hessian can be
trusted and has seen all of the gradient; a loss that falls by less than its
rounding error says nothing; and a long way gone for no gain leads to infinity.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import scipy.linalg as la

from dresoftmax.model.evaluation import Evaluation
from dresoftmax.optimize.quadratic_model import QuadraticModel, Whitening
from dresoftmax.result import Status

__all__ = ["Termination", "gradient_noise", "is_reliable", "loss_noise"]

# Most relative error of the curvature.
DOUBT = 0.5
# x runs to infinity where, over so many steps, z moves by more than FAR (RMS) and
# the loss falls by less than FLAT‖b‖².
WINDOW, FAR, FLAT = 6, 1.0, 1e-8
# Steps at the level of rounding errors that do not better the decrement, before
# giving up; with a sketch the decrement is a random one, and falls by fits and starts.
STALLS, SKETCH_STALLS = 5, 20
# Steps shorter than this are lost in rounding errors.
LEAST_RADIUS = 1e-14
# A decrement is foreseen with this margin, and never below rounding errors, as part of
# ‖b‖; it is not foreseen where the target is too near to them.
MARGIN, ROUNDING, LEAST_FORESEEN = 20.0, 1e-14, 1e-11


class Termination:
    """Watches the iteration for its end.

    Parameters
    ----------
    target : float
        Decrement at which the iteration has converged.
    b_norm : float
        ‖b‖, the scale of the decrement.
    max_iter : int
    sketched : bool
        Whether Hessians are sketched.
    least_radius : float
        Smallest trust radius that is worth a step.
    foresight : {"none", "linear", "quadratic"}
        Whether to save a last read where its result can be foreseen, and by which law.
    """

    def __init__(
        self,
        *,
        target: float,
        b_norm: float,
        max_iter: int,
        sketched: bool = False,
        least_radius: float = LEAST_RADIUS,
        foresight: str = "none",
    ) -> None:
        self.target = target
        self.b_norm = b_norm
        self.max_iter = max_iter
        self.least_radius = least_radius
        self.foresight = foresight if target >= LEAST_FORESEEN * b_norm else "none"
        self._patience = SKETCH_STALLS if sketched else STALLS
        self._steps: deque[np.ndarray] = deque(maxlen=WINDOW)
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._best = math.inf
        self._stalls = 0

    def note(self, y: np.ndarray, loss: float, decrement: float, *, unseen: bool) -> None:
        """Take note of a step y to a point; `unseen` where rounding hides its gain."""
        self._steps.append(y)
        self._losses.append(loss)
        better = decrement < 0.9 * self._best
        self._best = min(decrement, self._best)
        self._stalls = self._stalls + 1 if unseen and not better else 0

    def foresee(self, before: float, last: float) -> float:
        """Return a bound on the decrement after one more Newton step, infinite if unknown.

        The decrement has fallen from δ₋ = `before` to δ = `last`.  Newton's method goes
        on with Cδ², where C = δ/δ₋² or, in units of ‖b‖, at least one; with a Hessian
        of another point it falls by δ/δ₋ once more.
        """
        if self.foresight == "none" or not math.isfinite(before):
            return math.inf
        bound = max(last / before**2, 1.0 / self.b_norm) * last**2
        if self.foresight == "linear":
            bound = max(bound, last * last / before)
        return MARGIN * max(bound, ROUNDING * self.b_norm)

    def has_converged(self, decrement: float, quadratic: QuadraticModel) -> bool:
        """Whether a decrement is small enough, and the Hessian has seen all of the gradient."""
        return decrement <= self.target and quadratic.unseen <= self.target * self.b_norm

    def verdict(
        self, iteration: int, decrement: float, quadratic: QuadraticModel, radius: float, stop: bool
    ) -> Status | None:
        """Return why the iteration has to end here, or None."""
        if self._leads_away:
            return Status.SOLUTION_AT_INFINITY
        if self.has_converged(decrement, quadratic):
            return Status.CONVERGED
        if stop:
            return Status.CALLBACK_STOP
        if self._stalls >= self._patience or radius < self.least_radius:
            return Status.NUMERICAL_LIMIT
        if iteration >= self.max_iter:
            return Status.ITERATION_LIMIT
        return None

    @property
    def _leads_away(self) -> bool:
        if len(self._steps) < WINDOW:
            return False
        fallen = self._losses[0] - self._losses[-1]
        return bool(fallen <= FLAT * self.b_norm**2 and la.norm(sum(self._steps)) >= FAR)


def is_reliable(model: Evaluation, quadratic: QuadraticModel, target: float) -> bool:
    """Whether α and κ were predicted well enough for the Hessian to be of use.

    Their errors are relative ones of G.  Where the loss is flat, ∇²L is a small
    difference of G and the other terms, and they can be all that is left of it:
    the decrement would then be anything.  Along the Newton step they have to be
    smaller than ∇²L, and for a claim of convergence in every direction.
    """
    if not 0.5 <= model.scale <= 2.0:
        return False
    if quadratic.newton is None:
        return True
    step = quadratic.metric.basis @ quadratic.newton
    if model.doubt * abs(step @ model.gram @ step) > DOUBT * quadratic.decrement**2:
        return False
    return quadratic.decrement > target or model.doubt * quadratic.largest(model.gram) <= DOUBT


def loss_noise(model: Evaluation, metric: Whitening, b_norm: float) -> float:
    """Return the size of rounding errors in the loss.

    Those of the sum, those of c = f − b, and those of z = Ax, which are large
    where the terms of Ax cancel.
    """
    # The loss of a surrogate may be negative.
    rounding = 1e-13 + 1e-15 * metric.row_norm * float(la.norm(model.x))
    residual = math.sqrt(2.0 * max(model.loss, 0.0)) + 1e-15 * b_norm
    return rounding * model.loss + 1e-15 * b_norm * residual


def gradient_noise(b_norm: float) -> float:
    """Return the size of rounding errors in the gradient, per RMS z."""
    return 1e-12 * b_norm**2
