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
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dresoftmax.averaging import SketchAverage
from dresoftmax.objective import Evaluation, Objective, Start
from dresoftmax.region import TrustRegion
from dresoftmax.result import Status
from dresoftmax.stopping import Watch, gradient_noise, is_reliable, loss_noise
from dresoftmax.subproblem import Metric, Quadratic
from dresoftmax.sums import Model

__all__ = ["Fallback", "Iterate", "Outcome", "minimise"]

# A start whose α is unknown takes a read to find its order, one to find it, one to use it.
MAX_START_READS = 4
# A trial has to reach this part of the fall that the model promised.
SUFFICIENT = 1e-4


@dataclass(frozen=True, slots=True)
class Iterate:
    """Where the iteration stands, and what its last read was.

    `step` and `step_norm` are the kind and the length of the step that led here,
    `candidates` the points that were evaluated with it, `rows` and `sketched` the
    rows read and those that entered the Hessian.
    """

    model: Model
    quadratic: Quadratic
    step: str
    step_norm: float
    radius: float
    candidates: int
    rows: int
    sketched: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the iteration ended, why, and after how many steps."""

    at: Iterate
    status: Status
    iterations: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """A start inside the domain, and its loss."""

    start: Start
    loss: float


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
    at, metric = _begin(objective, start, fallback, strict, radius, b_norm)
    region = TrustRegion(radius)
    sketched = objective.hessian != "exact"
    watch = Watch(target=target, b_norm=b_norm, max_iter=max_iter, sketched=sketched)
    average = SketchAverage()
    iteration = 0
    while True:
        stop = observe(at)
        status = watch.verdict(iteration, at.quadratic, region.radius, stop)
        if status is not None:
            return Outcome(at, status, iteration)
        iteration += 1

        steps = region.propose(at.quadratic)
        deltas = [metric.basis @ step.y for step in steps]
        evaluation = objective.evaluate(
            [Start(at.model.x + delta, *at.model.predict(delta)) for delta in deltas], at.quadratic
        )
        rows = evaluation.sums.rows
        losses = [math.inf if trial is None else trial.loss for trial in evaluation.models]
        best = int(np.argmin(losses))
        step, model = steps[best], evaluation.models[best]

        promised, fallen = at.quadratic.reduction(step.y), at.model.loss - losses[best]
        noise = loss_noise(at.model, metric, b_norm)
        hidden = promised <= noise
        if model is None or fallen < (-noise if hidden else SUFFICIENT * promised):
            region.reject(steps)
            at = replace(
                at, step="rejected", step_norm=0.0, radius=region.radius,
                candidates=len(steps), rows=rows, sketched=evaluation.sums.sketched,
            )  # fmt: skip
            continue
        if sketched:
            model = average.add(model, step.norm)
        quadratic = Quadratic(model.gradient, model.hessian, metric, gradient_noise(b_norm))
        if not is_reliable(model, quadratic, target):
            again = objective.evaluate([Start.at(model)], at.quadratic)
            rows += again.sums.rows
            if again.models[0] is not None:
                evaluation, model = again, again.models[0]
                quadratic = Quadratic(model.gradient, model.hessian, metric, gradient_noise(b_norm))
        region.accept(step, steps, 1.0 if hidden else fallen / promised, quadratic)
        watch.note(step.y, model.loss, quadratic.decrement, unseen=hidden)
        at = Iterate(
            model, quadratic, step.kind, step.norm, region.radius,
            len(steps), rows, evaluation.sums.sketched,
        )  # fmt: skip


def _begin(
    objective: Objective,
    start: Start,
    fallback: Fallback | None,
    strict: bool,
    radius: float,
    b_norm: float,
) -> tuple[Iterate, Metric]:
    """Evaluate the start or, where that is worse, the fallback; and find the metric."""
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
    quadratic = Quadratic(model.gradient, model.hessian, metric, gradient_noise(b_norm))
    sketched = evaluation.sums.sketched
    return Iterate(model, quadratic, "start", 0.0, radius, 1, rows, sketched), metric


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
