"""What the iteration stands on, and what it tries next.

A `StepProposer` looks at a point, of which a read has found a model, and proposes the
points of the next read.  The one here knows nothing but that model; it is also the
guide of all iterations on a sample of rows.  The guide of an iteration over all
rows that has a sample at hand is in `companion`.

Proposals only: nothing is evaluated on all rows here, and nothing decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dresoftmax.model.evaluation import Evaluation
from dresoftmax.optimize.hessian_reuse import SketchAverage
from dresoftmax.optimize.objective import TrialPoint
from dresoftmax.optimize.quadratic_model import QuadraticModel, Whitening
from dresoftmax.optimize.trust_region import Step, TrustRegion

__all__ = ["Iterate", "QuadraticProposer", "StepProposer", "Trial"]


@dataclass(frozen=True, slots=True)
class Iterate:
    """Where the iteration stands, and what its last read was.

    `decrement` is that of `quadratic`, or what is foreseen of it where the point was
    not read.  `step` and `step_norm` are the kind and the length of the step that led
    here, `candidates` the points that were evaluated with it, `rows` and `sketched`
    the rows read and those that entered the Hessian.
    """

    model: Evaluation
    quadratic: QuadraticModel
    decrement: float
    step: str
    step_norm: float
    radius: float
    candidates: int
    rows: int
    sketched: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A point to evaluate, the step that leads there, and the fall of the loss it promises.

    `hessian` is whether the read should bring one.
    """

    step: Step
    start: TrialPoint
    promised: float
    hessian: bool = True


class StepProposer(Protocol):
    """Proposes where to go."""

    def refine(
        self, model: Evaluation, start: TrialPoint, moved: float, metric: Whitening
    ) -> Evaluation:
        """Return what is known at a point: `model`, with a better Hessian if there is one.

        `start` is what was asked of the read that gave the model, `moved` the length
        of the step that led to it.  The model has no Hessian where a trial of this
        guide asked for none.
        """

    def propose(self, at: Iterate, region: TrustRegion) -> list[Trial]:
        """Return the trials of the next read, none where the solve is to end."""


class QuadraticProposer:
    """Proposes the steps of the trust region by the quadratic model alone.

    Parameters
    ----------
    sketched : bool
        Whether Hessians are sketches, and to be averaged.
    """

    def __init__(self, sketched: bool = False) -> None:
        self._average = SketchAverage() if sketched else None

    def refine(
        self, model: Evaluation, start: TrialPoint, moved: float, metric: Whitening
    ) -> Evaluation:
        """Return `model`, with the mean of the sketches near it."""
        if self._average is None:
            return model
        return model.with_gram(self._average.add(model.gram, moved))

    def propose(self, at: Iterate, region: TrustRegion) -> list[Trial]:
        """Return the minimisers within several radii, or the Newton step at several lengths."""
        basis = at.quadratic.metric.basis
        trials = []
        for step in region.propose(at.quadratic):
            delta = basis @ step.y
            start = TrialPoint(at.model.x + delta, *at.model.predict(delta))
            trials.append(Trial(step, start, at.quadratic.reduction(step.y)))
        return trials
