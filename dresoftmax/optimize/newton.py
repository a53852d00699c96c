"""The iteration: trust-region Newton, one read of the rows per step.

    1  evaluate the start                                     (one read)
    2  model the objective at x: gradient, Hessian, decrement
    3  stop where the decrement is at most the target
    4  have the guide propose trial points
    5  go to the first of them unread, and stop, where the decrement there is foreseen
       to be at most the target; else evaluate all of them    (one read)
    6  move to the best trial, or stay; adapt the radius; go to 2

What a read costs and where the rows lie is not known here.  The same loop runs
on a sample of rows in the driver's memory and on all rows of a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from dresoftmax.model.evaluation import Evaluation
from dresoftmax.optimize.objective import Objective, ReadResult, TrialPoint
from dresoftmax.optimize.proposals import Iterate, StepProposer, Trial
from dresoftmax.optimize.quadratic_model import QuadraticModel, Whitening
from dresoftmax.optimize.termination import Termination, gradient_noise, is_reliable, loss_noise
from dresoftmax.optimize.trust_region import TrustRegion
from dresoftmax.result import Status

__all__ = ["Fallback", "Outcome", "Reader", "descend", "minimise"]

# A start whose α is unknown takes a read to find its order, one to find it, one to use it.
MAX_START_READS = 4
# A trial has to reach this part of the fall that the model promised.
SUFFICIENT = 1e-4


class Reader(Protocol):
    """An objective: models at points, by one read of its rows."""

    def evaluate(
        self, starts: Sequence[TrialPoint], guide: QuadraticModel | None, *, hessian: bool = True
    ) -> ReadResult:
        """Return the models at all of `starts`, with or without their Hessians."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the iteration ended, why, and after how many steps."""

    at: Iterate
    status: Status
    iterations: int


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another start, and its loss, which is infinite where that is unknown."""

    start: TrialPoint
    loss: float

    @classmethod
    def opposite(cls, start: TrialPoint) -> Fallback:
        """Return −x, for where α is not positive at x: z and odd units have the other sign."""
        return cls(replace(start, x=-start.x), math.inf)


def minimise(
    objective: Objective,
    start: TrialPoint,
    *,
    guide: StepProposer,
    fallback: Fallback | None = None,
    strict: bool = True,
    watch: Termination,
    radius: float,
    metric: Whitening | None = None,
    observe: Callable[[Iterate], bool],
) -> Outcome:
    """Minimise `objective`, from a start of which only the point is known for sure.

    Parameters
    ----------
    start : Start
        Where to begin.
    guide : Guide
        Says what to try.
    fallback : Fallback, optional
        Where to begin if `start` is worse, or outside the domain.
    strict : bool
        Whether a start outside the domain is an error, in spite of a fallback.
    watch : Watch
        Says when to stop.
    radius : float
        First trust radius, as RMS change of z.
    metric : Metric, optional
        The metric where it is known, else it is read with the start.
    observe : callable
        Sees each iteration; returning True ends the loop.

    Raises
    ------
    ValueError
        If α ≤ 0 at the start, or A holds NaN or infinity.
    """
    at = _begin(objective, start, guide, fallback, strict, watch, radius, metric)
    return descend(
        objective, at, guide=guide, watch=watch, region=TrustRegion(radius),
        observe=observe, stop=observe(at),
    )  # fmt: skip


def descend(
    objective: Reader,
    at: Iterate,
    *,
    guide: StepProposer,
    watch: Termination,
    region: TrustRegion,
    observe: Callable[[Iterate], bool],
    stop: bool = False,
) -> Outcome:
    """Iterate from `at`; the parameters are those of `minimise`."""
    metric, b_norm = at.quadratic.metric, watch.b_norm
    before = math.inf
    iteration = 0
    while True:
        reach = min(region.radius, region.room)
        status = watch.verdict(iteration, at.decrement, at.quadratic, reach, stop)
        if status is not None:
            return Outcome(at, status, iteration)

        trials = guide.propose(at, region)
        if not trials:
            return Outcome(at, Status.CALLBACK_STOP, iteration)
        iteration += 1
        foreseen = watch.foresee(before, at.decrement)
        if foreseen <= watch.target:
            foreseen += at.model.doubt * at.quadratic.stray(at.model.gram)
        if foreseen <= watch.target and trials[0].step.kind in ("newton", "corrected"):
            at = _unread(at, trials[0], foreseen)
            stop = observe(at)
            continue

        evaluation = objective.evaluate(
            [trial.start for trial in trials], at.quadratic, hessian=trials[0].hessian
        )
        rows = evaluation.sums.rows
        losses = [math.inf if model is None else model.loss for model in evaluation.models]
        best = int(np.argmin(losses))
        trial, model = trials[best], evaluation.models[best]
        step, steps = trial.step, [trial.step for trial in trials]

        fallen = at.model.loss - losses[best]
        noise = loss_noise(at.model, metric, b_norm)
        hidden = trial.promised <= noise
        if model is None or fallen < (-noise if hidden else SUFFICIENT * trial.promised):
            region.reject(steps)
            at = replace(
                at, step="rejected", step_norm=0.0, radius=region.radius,
                candidates=len(steps), rows=rows, sketched=evaluation.sums.sketched,
            )  # fmt: skip
            stop = observe(at)
            continue
        model, quadratic, more = _look(
            objective, guide, model, trial.start, step.norm, metric, at.quadratic, watch
        )
        region.accept(step, steps, 1.0 if hidden else fallen / trial.promised, quadratic)
        watch.note(step.y, model.loss, quadratic.decrement, unseen=hidden)
        before = at.decrement
        at = Iterate(
            model, quadratic, quadratic.decrement, step.kind, step.norm, region.radius,
            len(steps), rows + more, evaluation.sums.sketched,
        )  # fmt: skip
        stop = observe(at)


def _look(
    objective: Reader,
    guide: StepProposer,
    model: Evaluation,
    start: TrialPoint,
    moved: float,
    metric: Whitening,
    last: QuadraticModel | None,
    watch: Termination,
) -> tuple[Evaluation, QuadraticModel, int]:
    """Return what is to be made of the model at a point, and the rows read for it.

    The guide refines it where there is more to do there; and where α and κ were too far
    from their predictions for its Hessian to be of use, it is read again.
    """

    def quadratic_of(model: Evaluation) -> QuadraticModel:
        return QuadraticModel(model.gradient, model.hessian, metric, gradient_noise(watch.b_norm))

    if model.doubt < math.inf:
        quadratic = quadratic_of(model)
        if watch.has_converged(quadratic.decrement, quadratic) and is_reliable(
            model, quadratic, watch.target
        ):
            return model, quadratic, 0
    model = guide.refine(model, start, moved, metric)
    quadratic = quadratic_of(model)
    if is_reliable(model, quadratic, watch.target):
        return model, quadratic, 0
    start = TrialPoint.at(model)
    again = objective.evaluate([start], last)
    if again.models[0] is not None:
        model = guide.refine(again.models[0], start, 0.0, metric)
        quadratic = quadratic_of(model)
    return model, quadratic, again.sums.rows


def _unread(at: Iterate, trial: Trial, decrement: float) -> Iterate:
    """Return the point of a trial as it is foreseen."""
    model = at.model
    delta = trial.start.x - model.x
    model = replace(
        model,
        x=trial.start.x,
        loss=max(model.loss - trial.promised, 0.0),
        gradient=model.gradient + model.hessian @ delta,
        log_alpha=trial.start.log_alpha,
        kappa=trial.start.kappa,
    )
    return replace(
        at, model=model, decrement=decrement, step="unread", step_norm=trial.step.norm,
        candidates=1, rows=0, sketched=0,
    )  # fmt: skip


def _begin(
    objective: Objective,
    start: TrialPoint,
    guide: StepProposer,
    fallback: Fallback | None,
    strict: bool,
    watch: Termination,
    radius: float,
    metric: Whitening | None,
) -> Iterate:
    """Evaluate the start or, where that is worse, the fallback; and find the metric."""
    unknown = metric is None
    evaluation, model, start, rows = _evaluate_start(objective, start, unknown)
    worse = model is None or (fallback is not None and model.loss > fallback.loss)
    if worse and fallback is not None and not (model is None and strict):
        evaluation, model, start, more = _evaluate_start(objective, fallback.start, unknown)
        rows += more
    if model is None:
        inside = fallback is not None and fallback.loss < math.inf
        raise ValueError(
            "x0 is outside the domain: alpha, the sum of u(A @ x0), has to be positive and "
            f"finite; start from {'x0=None, which is inside' if inside else 'another point'}"
        )
    if metric is None:
        metric, sure = objective.metric(evaluation)
        if not sure:
            start = TrialPoint.at(model)
            evaluation = objective.evaluate([start], None, metric=True, exact=True)
            rows += evaluation.sums.rows
            model = evaluation.models[0] or model
            metric, _ = objective.metric(evaluation)
    model = model.moved(metric.project(model.x), objective.ridge)
    model, quadratic, more = _look(objective, guide, model, start, math.inf, metric, None, watch)
    return Iterate(
        model, quadratic, quadratic.decrement, "start", 0.0, radius, 1, rows + more,
        evaluation.sums.sketched,
    )  # fmt: skip


def _evaluate_start(
    objective: Objective, start: TrialPoint, metric: bool
) -> tuple[ReadResult, Evaluation | None, TrialPoint, int]:
    """Read the start, again where its references were too far off to be of use.

    The model is None where α is not positive, or Ax overflows.
    """
    rows = 0
    for _ in range(MAX_START_READS):
        evaluation = objective.evaluate([start], None, metric=metric)
        rows += evaluation.sums.rows
        model = evaluation.models[0]
        total, largest_z = evaluation.sums.total, evaluation.sums.largest_z
        if model is not None and 0.5 <= model.scale <= 2.0:
            return evaluation, model, start, rows
        if total < 0.0 or not math.isfinite(largest_z):
            break
        start = (
            TrialPoint.beyond(start.x, largest_z, objective.weight)
            if model is None
            else TrialPoint.at(model)
        )
    return evaluation, None, start, rows
