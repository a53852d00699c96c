"""The iteration: trust-region Newton, one read of the rows per step.

    1  evaluate the start                                     (one read)
    2  model the objective at x: gradient, Hessian, decrement
    3  stop where the decrement is at most the target
    4  propose trial points: minimisers of the model within several radii, or
       the Newton step at several lengths
    5  evaluate all of them together                          (one read)
    6  move to the best trial, or stay; adapt the radius; go to 2

What a read costs and where the rows lie is not known here.  The same loop runs
on a sample of rows in the driver's memory and on all rows of a cluster.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la

from dresoftmax.objective import Evaluation, Objective, Start
from dresoftmax.result import Status
from dresoftmax.subproblem import Metric, Quadratic
from dresoftmax.sums import Model

__all__ = ["Fallback", "Iterate", "Outcome", "minimise"]

# Newton steps shorter than this (RMS change of z) need no second candidate.
SHORT = 0.3
# Most relative error of the curvature.
DOUBT = 0.5
# x runs to infinity where, over so many steps, z moves by more than FAR (RMS) and
# the loss falls by less than FLAT‖b‖².
WINDOW, FAR, FLAT = 6, 1.0, 1e-8
# Gradients of this size, relative to ‖b‖² per RMS z, are rounding errors.
GRADIENT_NOISE = 1e-12
# Steps at the level of rounding errors that do not better the decrement, before
# giving up; with a sketch the decrement is a random one, and falls by fits and starts.
STALLS, SKETCH_STALLS = 5, 20
# Steps shorter than this are lost in rounding errors.
LEAST_RADIUS = 1e-14
# A start whose α is unknown takes a read to find its order, one to find it, one to use it.
MAX_START_READS = 4


@dataclass(frozen=True, slots=True)
class Iterate:
    """One iteration, as the observer sees it."""

    step: str
    model: Model
    quadratic: Quadratic
    step_norm: float
    radius: float
    candidates: int
    rows: int
    sketched: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the iteration ended, and why."""

    model: Model
    quadratic: Quadratic
    status: Status
    iterations: int
    radius: float


@dataclass(frozen=True, slots=True)
class Fallback:
    """A start inside the domain, and its loss."""

    start: Start
    loss: float


class Trail:
    """The last steps, in which a solve that will not converge shows itself."""

    def __init__(self, b_norm: float) -> None:
        self._b_norm = b_norm
        self._steps: deque[np.ndarray] = deque(maxlen=WINDOW)
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._best = math.inf
        self.stalls = 0

    def add(self, y: np.ndarray, loss: float, decrement: float, *, at_limit: bool) -> None:
        """Take note of a step y; `at_limit` where its gain is lost in rounding."""
        self._steps.append(y)
        self._losses.append(loss)
        better = decrement < 0.9 * self._best
        self._best = min(decrement, self._best)
        self.stalls = self.stalls + 1 if at_limit and not better else 0

    @property
    def leads_away(self) -> bool:
        """Whether a long way was gone for hardly any gain: to infinity."""
        if len(self._steps) < WINDOW:
            return False
        fallen = self._losses[0] - self._losses[-1]
        return bool(fallen <= FLAT * self._b_norm**2 and la.norm(sum(self._steps)) >= FAR)


def minimise(
    objective: Objective,
    start: Start,
    *,
    fallback: Fallback | None = None,
    strict: bool = True,
    target: float,
    b_norm: float,
    max_iter: int,
    radius: float,
    observe: Callable[[Iterate], bool],
) -> Outcome:
    """Minimise `objective` until the decrement is at most `target`.

    Parameters
    ----------
    start : Start
        Where to begin.
    fallback : Fallback, optional
        A point whose loss is known: where to begin if `start` is worse.
    strict : bool
        Whether a start outside the domain is an error, in spite of a fallback.
    b_norm : float
        ‖b‖, the scale of the decrement.
    radius : float
        First trust radius, as RMS change of z.
    observe : callable
        Sees each iteration; returning True ends the loop.

    Raises
    ------
    ValueError
        If α ≤ 0 at the start, or A holds NaN or infinity.
    """
    evaluation, model, rows = _evaluate_start(objective, start)
    if model is None and (strict or fallback is None):
        raise ValueError(
            "x0 is outside the domain: alpha, the sum of u(A @ x0), has to be positive and "
            "finite; start from x0=None (zeros), which is always inside"
        )
    if fallback is not None and (model is None or model.loss > fallback.loss):
        evaluation, model, more = _evaluate_start(objective, fallback.start)
        rows += more
    assert model is not None, "the fallback lies inside the domain"
    metric, sure = objective.metric(evaluation)
    if not sure:
        evaluation = objective.evaluate([Start.at(model)], None, metric=True, exact=True)
        rows += evaluation.sums.rows
        model = evaluation.models[0] or model
        metric, _ = objective.metric(evaluation)
    model = model.moved(metric.project(model.x), objective.ridge)
    noise = GRADIENT_NOISE * b_norm**2
    quadratic = Quadratic(model.gradient, model.hessian, metric, noise)
    step, moved, candidates = "start", 0.0, 1
    trusted, slow = False, False
    trail = Trail(b_norm)
    stalls = STALLS if objective.hessian == "exact" else SKETCH_STALLS
    iteration = -1
    while True:
        iteration += 1
        seen = Iterate(
            step, model, quadratic, moved, radius, candidates, rows, evaluation.sums.sketched
        )
        stop = observe(seen)
        if trail.leads_away:
            return Outcome(model, quadratic, Status.SOLUTION_AT_INFINITY, iteration, radius)
        if quadratic.decrement <= target and quadratic.unseen <= target * b_norm:
            return Outcome(model, quadratic, Status.CONVERGED, iteration, radius)
        if stop:
            return Outcome(model, quadratic, Status.CALLBACK_STOP, iteration, radius)
        if trail.stalls >= stalls or radius < LEAST_RADIUS:
            return Outcome(model, quadratic, Status.NUMERICAL_LIMIT, iteration, radius)
        if iteration == max_iter:
            return Outcome(model, quadratic, Status.ITERATION_LIMIT, iteration, radius)

        trials = _propose(quadratic, radius, trusted=trusted, slow=slow)
        points = []
        for _, y in trials:
            delta = metric.basis @ y
            points.append(Start(model.x + delta, *model.predict(delta)))
        evaluation = objective.evaluate(points, quadratic)
        rows, candidates = evaluation.sums.rows, len(trials)

        losses = [trial.loss if trial else math.inf for trial in evaluation.models]
        best = int(np.argmin(losses))
        kind, y = trials[best]
        predicted, actual = quadratic.reduction(y), model.loss - losses[best]
        loss_noise = _noise(model, metric, b_norm)
        trial = evaluation.models[best]
        norms = [float(la.norm(y)) for _, y in trials]
        if trial is None or actual < (-loss_noise if predicted <= loss_noise else 1e-4 * predicted):
            step, moved, trusted = "rejected", 0.0, False
            radius = 0.25 * min(norms)
            continue
        predictions = quadratic
        model = trial
        quadratic = Quadratic(model.gradient, model.hessian, metric, noise)
        if not _reliable(model, quadratic, target):
            again = objective.evaluate([Start.at(model)], predictions)
            rows += again.sums.rows
            if again.models[0] is not None:
                evaluation, model = again, again.models[0]
                quadratic = Quadratic(model.gradient, model.hessian, metric, noise)
        step, moved = kind, norms[best]
        ratio = actual / predicted if predicted > loss_noise else 1.0
        left = math.inf if quadratic.newton is None else float(la.norm(quadratic.newton))
        slow = left > 0.5 * moved
        trusted = kind == "newton" and 0.75 <= ratio <= 1.25 and not slow
        if ratio < 0.25:
            radius = 0.5 * moved
        elif moved >= 0.99 * max(norms):
            radius = max(radius, 2.0 * moved)
        else:
            radius = max(moved, 0.5 * radius)
        trail.add(y, model.loss, quadratic.decrement, at_limit=predicted <= loss_noise)


def _propose(
    quadratic: Quadratic, radius: float, *, trusted: bool, slow: bool
) -> list[tuple[str, np.ndarray]]:
    """Return the trial steps (kind, y) of one iteration.

    A Newton step goes alone where the last one was as good as its model
    (`trusted`), or where it is short, unless the steps hardly shrink (`slow`).
    """
    newton = quadratic.newton
    if newton is None or la.norm(newton) > radius:
        return [("boundary", quadratic.step(scale * radius)) for scale in (1.0, 3.0, 1.0 / 3.0)]
    if trusted or (la.norm(newton) <= SHORT and not slow):
        return [("newton", newton)]
    return [("newton", newton), ("stretched", 1.6 * newton), ("stretched", 2.5 * newton)]


def _reliable(model: Model, quadratic: Quadratic, target: float) -> bool:
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


def _noise(model: Model, metric: Metric, b_norm: float) -> float:
    """Return the size of rounding errors in the loss.

    Those of the sum, those of c = f − b, and those of z = Ax, which are large
    where the terms of Ax cancel.
    """
    rounding = 1e-13 + 1e-15 * metric.row_norm * float(la.norm(model.x))
    residual = math.sqrt(2.0 * model.loss) + 1e-15 * b_norm
    return rounding * model.loss + 1e-15 * b_norm * residual


def _evaluate_start(objective: Objective, start: Start) -> tuple[Evaluation, Model | None, int]:
    """Read the start, again where its references were too far off to be of use.

    The model is None where α is not positive, or Ax overflows.
    """
    rows = 0
    for _ in range(MAX_START_READS):
        evaluation = objective.evaluate([start], None, metric=True)
        rows += evaluation.sums.rows
        model = evaluation.models[0]
        total, largest_z = evaluation.sums.total, evaluation.sums.largest_z
        if model is not None and 0.5 <= model.scale <= 2.0:
            return evaluation, model, rows
        if total < 0.0 or not math.isfinite(largest_z):
            break
        # After overflow or underflow, α lies between exp(max z) and n times that.
        start = (
            Start(start.x, largest_z + math.log(objective.weight), 0.0)
            if model is None
            else Start.at(model)
        )
    return evaluation, None, rows
