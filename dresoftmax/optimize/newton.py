"""The iteration: trust-region Newton, one read of the rows for each step.

    1  evaluate the start                                     (one read)
    2  stop if the decrement is at most the target
    3  have the proposer say which points to try
    4  go to the first of them unread, and stop, if the decrement there is foreseen to be at
       most the target
    5  evaluate all of them                                   (one read)
    6  stay, with a smaller radius, if the best does not fall as it promised; else move there
       and adapt the radius; go to 2

The loop knows neither what a read costs nor where the rows lie.  It runs on a sample of
rows in the driver's memory and on all rows of a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from dresoftmax.model.evaluation import TrialPoint
from dresoftmax.optimize.iterate import (
    Fallback,
    accepted_iterate,
    best_trial,
    first_iterate,
    foreseen_iterate,
    refined,
    rejected_iterate,
)
from dresoftmax.optimize.objective import Objective, Reader
from dresoftmax.optimize.proposals import Iterate, StepProposer
from dresoftmax.optimize.termination import RecentSteps, Termination
from dresoftmax.optimize.whitening import Whitening
from dresoftmax.result import Status

__all__ = ["Outcome", "descend", "minimise"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the iteration ended, why, and after how many steps."""

    at: Iterate
    status: Status
    iterations: int


def minimise(
    objective: Objective,
    start: TrialPoint,
    *,
    proposer: StepProposer,
    fallback: Fallback | None = None,
    strict: bool = True,
    termination: Termination,
    radius: float,
    whitening: Whitening | None = None,
    observe: Callable[[Iterate], bool],
) -> Outcome:
    """Minimise `objective`, from a start of which only the point is known for sure.

    Parameters
    ----------
    start : TrialPoint
        Where to begin.
    proposer : StepProposer
        Says what to try.
    fallback : Fallback, optional
        Where to begin if `start` is worse, or outside the domain.
    strict : bool
        Whether a start outside the domain is an error, in spite of a fallback.
    termination : Termination
        Says when to stop.
    radius : float
        First trust radius, as RMS change of z.
    whitening : Whitening, optional
        If it is not known, it is read with the start.
    observe : callable
        Sees each iterate; returning True ends the loop.

    Raises
    ------
    ValueError
        If α ≤ 0 at the start, or A holds NaN or infinity.
    """
    # 1  Evaluate the start.
    at = first_iterate(
        objective, start, proposer=proposer, fallback=fallback, strict=strict,
        termination=termination, radius=radius, whitening=whitening,
    )  # fmt: skip
    return descend(
        objective, at, proposer=proposer, termination=termination, observe=observe,
        stop=observe(at),
    )  # fmt: skip


def descend(
    objective: Reader,
    at: Iterate,
    *,
    proposer: StepProposer,
    termination: Termination,
    observe: Callable[[Iterate], bool],
    stop: bool = False,
) -> Outcome:
    """Iterate from `at`; the parameters are those of `minimise`."""
    recent, before, iteration = RecentSteps(), math.inf, 0
    while True:
        # 2  Stop if the decrement is at most the target, or nothing is left to gain.
        status = termination.verdict(
            iteration, at.decrement, at.quadratic, recent, at.region.reach, stop=stop
        )
        if status is not None:
            return Outcome(at, status, iteration)

        # 3  Have the proposer say which points to try.
        proposal = proposer.propose(at, at.region)
        if not proposal.trials:
            return Outcome(at, Status.CALLBACK_STOP, iteration)
        trials, first = proposal.trials, proposal.trials[0]
        at, iteration = replace(at, known=proposal.known), iteration + 1

        # 4  Go to the first of them unread, if the decrement there can be foreseen.
        foreseen = termination.foresee(before, at.decrement)
        if foreseen <= termination.target:
            foreseen += at.evaluation.doubt * at.quadratic.stray(at.evaluation.gram)
        if foreseen <= termination.target and first.step.kind in ("newton", "corrected"):
            at = foreseen_iterate(at, first, foreseen)
            stop = observe(at)
            continue

        # 5  Evaluate all of them.
        found = objective.evaluate(
            [trial.point for trial in trials],
            draw=at.draw, metric=at.quadratic, hessian=first.hessian,
        )  # fmt: skip
        best = best_trial(objective, at, trials, found)

        # 6  Stay, with a smaller radius, if the best does not fall as it promised; else move.
        if best.evaluation is None or not best.falls:
            at = rejected_iterate(at, trials, found)
        else:
            before = at.decrement
            made = refined(
                objective, proposer, termination, best.evaluation, best.trial.point,
                moved=best.trial.step.norm, whitening=at.quadratic.whitening,
                metric=at.quadratic, draw=found.draw, known=at.known,
            )  # fmt: skip
            at = accepted_iterate(at, trials, found, best, made)
            recent = recent.after(
                best.trial.step.y, at.evaluation.loss, at.decrement, hidden=best.hidden
            )
        stop = observe(at)
