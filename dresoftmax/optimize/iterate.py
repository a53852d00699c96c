"""The parts of an iteration: its start, the use of a read, and a step that is not read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dresoftmax.model.evaluation import Evaluation, TrialPoint
from dresoftmax.optimize.objective import Draw, Objective, Reader, ReadResult
from dresoftmax.optimize.proposals import Iterate, StepProposer, Trial
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.termination import Termination, is_reliable
from dresoftmax.optimize.trust_region import TrustRegion
from dresoftmax.optimize.whitening import Whitening

__all__ = [
    "BestTrial",
    "Fallback",
    "Refined",
    "accepted_iterate",
    "best_trial",
    "first_iterate",
    "foreseen_iterate",
    "refined",
    "rejected_iterate",
]

# A start whose α is unknown takes a read to find its order, one to find it, one to use it.
MAX_START_READS = 4
# A trial has to reach this part of the fall that the model promised.
SUFFICIENT = 1e-4


@dataclass(frozen=True, slots=True)
class Fallback:
    """Another start, and its loss, which is infinite if that is unknown."""

    point: TrialPoint
    loss: float

    @classmethod
    def opposite(cls, point: TrialPoint) -> Fallback:
        """Return −x, for the case that α is not positive at x: z and odd units change sign."""
        return cls(replace(point, x=-point.x), math.inf)


@dataclass(frozen=True, slots=True)
class Refined:
    """An evaluation as the iteration uses it.

    `rows` were read for it, `draw` is for the next read, and `known` what the proposer knows.
    """

    evaluation: Evaluation
    quadratic: QuadraticModel
    rows: int
    draw: Draw
    known: object


@dataclass(frozen=True, slots=True)
class BestTrial:
    """The trial of least loss among those of a read.

    Attributes
    ----------
    trial : Trial
    evaluation : Evaluation or None
        None if all trials are outside the domain.
    falls : bool
        Whether the loss falls by a sufficient part of what the trial promised.
    hidden : bool
        Whether rounding errors hide the fall.
    ratio : float
        The fall over that of the model, 1 if it is hidden.
    """

    trial: Trial
    evaluation: Evaluation | None
    falls: bool
    hidden: bool
    ratio: float


def refined(
    objective: Reader,
    proposer: StepProposer,
    termination: Termination,
    evaluation: Evaluation,
    point: TrialPoint,
    *,
    moved: float,
    whitening: Whitening,
    metric: QuadraticModel | None,
    draw: Draw,
    known: object,
) -> Refined:
    """Return the evaluation of a point as the iteration uses it.

    The proposer refines it if the iteration goes on from there.  If α and κ were too far
    from their predictions for its Hessian to be of use, it is read again.
    """
    target = termination.target
    if evaluation.doubt < math.inf:
        quadratic = objective.quadratic(evaluation, whitening)
        if termination.has_converged(quadratic.decrement, quadratic) and is_reliable(
            evaluation, quadratic, target
        ):
            return Refined(evaluation, quadratic, 0, draw, known)
    evaluation, known = proposer.refine(evaluation, point, moved, whitening, known)
    quadratic = objective.quadratic(evaluation, whitening)
    if is_reliable(evaluation, quadratic, target):
        return Refined(evaluation, quadratic, 0, draw, known)
    point = evaluation.point
    found = objective.evaluate([point], draw=draw, metric=metric)
    again = found.evaluations[0]
    if again is not None:
        evaluation, known = proposer.refine(again, point, 0.0, whitening, known)
        quadratic = objective.quadratic(evaluation, whitening)
    return Refined(evaluation, quadratic, found.sums.rows, found.draw, known)


def foreseen_iterate(at: Iterate, trial: Trial, decrement: float) -> Iterate:
    """Return the point of a trial as it is foreseen, without a read."""
    before = at.evaluation
    delta = trial.point.x - before.x
    evaluation = replace(
        before,
        x=trial.point.x,
        loss=max(before.loss - trial.promised, 0.0),
        gradient=before.gradient + before.hessian @ delta,
        log_alpha=trial.point.log_alpha,
        kappa=trial.point.kappa,
    )
    return replace(
        at,
        evaluation=evaluation,
        decrement=decrement,
        step="unread",
        step_norm=trial.step.norm,
        candidates=1,
        rows=0,
        sketched=0,
    )


def best_trial(
    objective: Reader, at: Iterate, trials: Sequence[Trial], found: ReadResult
) -> BestTrial:
    """Return the trial of least loss, and whether its loss falls as it promised."""
    losses = [math.inf if each is None else each.loss for each in found.evaluations]
    best = int(np.argmin(losses))
    fallen, promised = at.evaluation.loss - losses[best], trials[best].promised
    noise = objective.noise(at.evaluation, at.quadratic.whitening)
    hidden = promised <= noise
    return BestTrial(
        trial=trials[best],
        evaluation=found.evaluations[best],
        falls=fallen >= (-noise if hidden else SUFFICIENT * promised),
        hidden=hidden,
        ratio=1.0 if hidden else fallen / promised,
    )


def rejected_iterate(at: Iterate, trials: Sequence[Trial], found: ReadResult) -> Iterate:
    """Return the point at which the iteration stays, with a smaller radius."""
    return replace(
        at,
        step="rejected",
        step_norm=0.0,
        region=at.region.rejected([trial.step for trial in trials]),
        candidates=len(trials),
        rows=found.sums.rows,
        sketched=found.sums.sketched,
        draw=found.draw,
    )


def accepted_iterate(
    at: Iterate, trials: Sequence[Trial], found: ReadResult, best: BestTrial, made: Refined
) -> Iterate:
    """Return the point of the best trial, with an adapted radius."""
    step, steps = best.trial.step, [trial.step for trial in trials]
    return Iterate(
        evaluation=made.evaluation,
        quadratic=made.quadratic,
        decrement=made.quadratic.decrement,
        step=step.kind,
        step_norm=step.norm,
        region=at.region.accepted(step, steps, best.ratio, made.quadratic),
        candidates=len(trials),
        rows=found.sums.rows + made.rows,
        sketched=found.sums.sketched,
        draw=made.draw,
        known=made.known,
    )


def first_iterate(
    objective: Objective,
    start: TrialPoint,
    *,
    proposer: StepProposer,
    fallback: Fallback | None,
    strict: bool,
    termination: Termination,
    radius: float,
    whitening: Whitening | None,
) -> Iterate:
    """Evaluate the start or, if that is worse, the fallback; and find the whitening.

    The parameters are those of `newton.minimise`.
    """
    unknown = whitening is None
    found, evaluation, start, rows = _evaluate_start(objective, start, Draw(), unknown)
    worse = evaluation is None or (fallback is not None and evaluation.loss > fallback.loss)
    if worse and fallback is not None and not (evaluation is None and strict):
        found, evaluation, start, more = _evaluate_start(
            objective, fallback.point, found.draw, unknown
        )
        rows += more
    if evaluation is None:
        inside = fallback is not None and fallback.loss < math.inf
        raise ValueError(
            "x0 is outside the domain: alpha, the sum of u(A @ x0), has to be positive and "
            f"finite; start from {'x0=None, which is inside' if inside else 'another point'}"
        )
    if whitening is None:
        whitening, sure = objective.whitening(found)
        if not sure:
            start = evaluation.point
            found = objective.evaluate([start], draw=found.draw, column_gram=True, exact=True)
            rows += found.sums.rows
            evaluation = found.evaluations[0] or evaluation
            whitening, _ = objective.whitening(found)
    made = refined(
        objective, proposer, termination,
        evaluation.moved(whitening.project(evaluation.x), objective.unit_ridge), start,
        moved=math.inf, whitening=whitening, metric=None, draw=found.draw, known=proposer.start,
    )  # fmt: skip
    return Iterate(
        evaluation=made.evaluation,
        quadratic=made.quadratic,
        decrement=made.quadratic.decrement,
        step="start",
        step_norm=0.0,
        region=TrustRegion(radius),
        candidates=1,
        rows=rows + made.rows,
        sketched=found.sums.sketched,
        draw=made.draw,
        known=made.known,
    )


def _evaluate_start(
    objective: Objective, start: TrialPoint, draw: Draw, column_gram: bool
) -> tuple[ReadResult, Evaluation | None, TrialPoint, int]:
    """Read the start, again if its references were too far off to be of use.

    The evaluation is None if α is not positive, or Ax overflows.
    """
    rows = 0
    for _ in range(MAX_START_READS):
        found = objective.evaluate([start], draw=draw, column_gram=column_gram)
        rows, draw = rows + found.sums.rows, found.draw
        evaluation = found.evaluations[0]
        if evaluation is not None and 0.5 <= evaluation.total <= 2.0:
            return found, evaluation, start, rows
        largest_z = float(found.sums.largest_z[0])
        if found.sums.total[0] < 0.0 or not np.isfinite(largest_z):
            break
        start = (
            TrialPoint.beyond(start.x, largest_z, objective.totals.n)
            if evaluation is None
            else evaluation.point
        )
    return found, None, start, rows
