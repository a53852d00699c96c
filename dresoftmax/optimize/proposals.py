"""What an iteration tries next.

A `StepProposer` looks at a point, of which a read has found an evaluation, and proposes
the points of the next read.  The one here uses that evaluation alone; it also serves
all iterations on a sample of rows.  The proposer of an iteration over all rows that has a
sample at hand is in `surrogate`.

A proposer keeps nothing to itself: what it learns at a point is handed to the iteration, which
hands it back.  Nothing is evaluated on all rows here, and nothing decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dresoftmax.model.evaluation import Evaluation, TrialPoint
from dresoftmax.optimize.hessian_reuse import SketchAverage
from dresoftmax.optimize.objective import Draw
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.trust_region import Step, TrustRegion
from dresoftmax.optimize.whitening import Whitening

__all__ = ["Iterate", "Proposal", "QuadraticProposer", "StepProposer", "Trial"]


@dataclass(frozen=True, slots=True)
class Iterate:
    """Where an iteration stands, and what its last read was.

    Attributes
    ----------
    evaluation : Evaluation
    quadratic : QuadraticModel
        Of the evaluation.
    decrement : float
        That of `quadratic`, or what is foreseen of it if the point was not read.
    step : str
        The kind of the step that led here, see `IterationRecord`.
    step_norm : float
        Its length.
    region : TrustRegion
        For the next step.
    candidates : int
        Points that were evaluated with this one.
    rows, sketched : int
        Rows read for it, and those that entered the Hessian.
    draw : Draw
        For the next read.
    known : Any
        What the proposer knows here.
    """

    evaluation: Evaluation
    quadratic: QuadraticModel
    decrement: float
    step: str
    step_norm: float
    region: TrustRegion
    candidates: int
    rows: int
    sketched: int
    draw: Draw
    known: Any


@dataclass(frozen=True, slots=True)
class Trial:
    """A point to evaluate, the step that leads there, and the fall of the loss it promises.

    `hessian` is whether the read should bring one.
    """

    step: Step
    point: TrialPoint
    promised: float
    hessian: bool = True


@dataclass(frozen=True, slots=True)
class Proposal:
    """The trials of the next read, none if the solve is to end; and what is known then."""

    trials: Sequence[Trial]
    known: Any


class StepProposer(Protocol):
    """Proposes where to go."""

    @property
    def start(self) -> Any:
        """What is known before the first read."""

    def refine(
        self,
        evaluation: Evaluation,
        point: TrialPoint,
        moved: float,
        whitening: Whitening,
        known: Any,
    ) -> tuple[Evaluation, Any]:
        """Return `evaluation` with a better Hessian, if there is one, and what is known there.

        `point` is what was asked of the read that gave the evaluation, `moved` the length
        of the step that led to it.  The evaluation has no Hessian if a trial of this
        proposer asked for none.
        """

    def propose(self, at: Iterate, region: TrustRegion) -> Proposal:
        """Return the trials of the next read."""


@dataclass(frozen=True, slots=True)
class QuadraticProposer:
    """Proposes the steps of the trust region by the quadratic model alone.

    Attributes
    ----------
    sketched : bool
        Whether Hessians are sketches, and to be averaged.
    """

    sketched: bool = False

    @property
    def start(self) -> SketchAverage:
        """No sketches."""
        return SketchAverage()

    def refine(
        self,
        evaluation: Evaluation,
        point: TrialPoint,
        moved: float,
        whitening: Whitening,
        known: SketchAverage,
    ) -> tuple[Evaluation, SketchAverage]:
        """Return `evaluation`, with the mean of the sketches near it."""
        if not self.sketched:
            return evaluation, known
        known = known.add(evaluation.gram, moved)
        return evaluation.with_gram(known.mean), known

    def propose(self, at: Iterate, region: TrustRegion) -> Proposal:
        """Return the minimisers within several radii, or the Newton step at several lengths."""
        basis = at.quadratic.whitening.basis
        trials = [
            Trial(step, at.evaluation.after(basis @ step.y), at.quadratic.reduction(step.y))
            for step in region.propose(at.quadratic)
        ]
        return Proposal(trials, at.known)
