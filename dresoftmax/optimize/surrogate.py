"""The proposer of an iteration over all rows that has a sample of them at hand.

At a point x of which all rows have been read, the sample knows what changes around
it.  Its objective L_S is tilted so that it agrees with that of all rows to second
order,

    L̃(x + Δ) = L_S(x + Δ) + [L − L_S](x) + [∇L − ∇L_S](x)ᵀΔ + ½Δᵀ[∇²L − ∇²L_S](x)Δ,

and minimised in this process, within the trust radius.  A Newton step leaves
an error of C‖Δ‖²; this leaves the sampling error of C, about √(d/m) of it with m
rows: most of a second step on all rows is saved.

The sample also improves the predictions of α and κ for the next read, beyond first order;
and it corrects G for what they were off by:

    G(α, κ) ≈ G(α₀, κ₀) + G_S(α, κ) − G_S(α₀, κ₀).

G − G_S hardly changes from point to point, so that it serves at the next one, too
(`hessian_reuse`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg as la

from dresoftmax.model.evaluation import Evaluation, TrialPoint
from dresoftmax.optimize.hessian_reuse import HessianReuse, SketchAverage
from dresoftmax.optimize.newton import descend
from dresoftmax.optimize.objective import Draw, Objective, ReadResult
from dresoftmax.optimize.proposals import Iterate, Proposal, QuadraticProposer, Trial
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.termination import Termination
from dresoftmax.optimize.trust_region import Step, TrustRegion
from dresoftmax.optimize.whitening import Whitening
from dresoftmax.result import Status

__all__ = ["SampleKnowledge", "Surrogate", "SurrogateProposer"]

# The surrogate is minimised until its decrement is this part of the first one; one
# Newton step more needs no evaluation.
PRECISION = 0.1
MAX_ITER = 8
# First radius in it, and the part of the trust radius that is not worth a step.
RADIUS, LEAST_ROOM = 1.0, 0.05
# References further off than this leave doubts about the sample's own Hessian.
DOUBT = 1e-2


class Surrogate:
    """The objective of the sample, tilted to that of all rows at one point.

    Parameters
    ----------
    sample : Objective
    whole, part : Evaluation
        Of all rows and of the sample at the point.
    """

    def __init__(self, sample: Objective, whole: Evaluation, part: Evaluation) -> None:
        self.sample = sample
        self.x = whole.x
        self.loss = whole.loss - part.loss
        self.gradient = whole.gradient - part.gradient
        self.hessian = whole.hessian - part.hessian

    def tilt(self, evaluation: Evaluation) -> Evaluation:
        """Return an evaluation of the sample as one of the surrogate."""
        delta = evaluation.x - self.x
        bent = self.hessian @ delta
        tilted = float(self.gradient @ delta + 0.5 * delta @ bent)
        return replace(
            evaluation,
            # A tilted loss may be negative; what counts is how it falls.
            loss=evaluation.loss + self.loss + tilted,
            gradient=evaluation.gradient + self.gradient + bent,
            hessian=evaluation.hessian + self.hessian,
        )

    def evaluate(
        self,
        points: Sequence[TrialPoint],
        *,
        draw: Draw,
        metric: QuadraticModel | None = None,
        hessian: bool = True,
    ) -> ReadResult:
        """Return what the surrogate is at all of `points`, by one read of the sample."""
        found = self.sample.evaluate(points, draw=draw, metric=metric, hessian=hessian)
        return replace(found, evaluations=[each and self.tilt(each) for each in found.evaluations])

    def quadratic(self, evaluation: Evaluation, whitening: Whitening) -> QuadraticModel:
        """Return the quadratic model at a point."""
        return self.sample.quadratic(evaluation, whitening)

    def noise(self, evaluation: Evaluation, whitening: Whitening) -> float:
        """Return the size of rounding errors in the loss at a point."""
        return self.sample.noise(evaluation, whitening)


@dataclass(frozen=True, slots=True)
class SampleKnowledge:
    """What the sample has said of a point.

    Attributes
    ----------
    next : TrialPoint or None
        The point that was proposed last, with α and κ of the sample.
    reuse : HessianReuse
        What is known of G.
    part : Evaluation or None
        Of the sample at the point, None before any and if it is outside the domain there.
    radius : float
        The trust radius in which was last proposed, for those who look on.
    stopped : bool
        Whether one of them has asked for the end.
    """

    next: TrialPoint | None
    reuse: HessianReuse
    part: Evaluation | None = None
    radius: float = RADIUS
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class SurrogateProposer:
    """Proposes the minimiser of the surrogate.

    Attributes
    ----------
    sample : Objective
        The objective over the rows of the sample, with exact Hessians.
    rows : int
        Their number.
    start : SampleKnowledge
        The start of the iteration, with α and κ of the sample.
    observe : callable
        Sees each read of the sample; returning True ends the solve.
    """

    sample: Objective
    rows: int
    start: SampleKnowledge
    observe: Callable[[Iterate], bool]

    @property
    def share(self) -> float:
        """The relative sampling error."""
        return math.sqrt(self.sample.d / self.rows)

    def refine(
        self,
        evaluation: Evaluation,
        point: TrialPoint,
        moved: float,
        whitening: Whitening,
        known: SampleKnowledge,
    ) -> tuple[Evaluation, SampleKnowledge]:
        """Return `evaluation` with G corrected by the sample, which is read once."""
        own = known.next
        if own is None or not np.array_equal(own.x, point.x):
            own = evaluation.point
        read = evaluation.doubt < math.inf
        points = [replace(own, x=evaluation.x)]
        if read:
            points += [replace(point, x=evaluation.x), evaluation.point]
        found = self.sample.evaluate(points)
        rows, part = found.sums.rows, found.evaluations[0]
        if part is None or part.doubt > DOUBT:
            again = self.sample.evaluate([(part or evaluation).point])
            rows += again.sums.rows
            part = again.evaluations[0]
        gram, doubt, reuse = evaluation.gram, evaluation.doubt, known.reuse
        if read:
            # In units of α, like all other terms; the sample corrects the rest.
            loss = self.sample.loss
            before, after = (
                loss.gram_unit(asked.log_alpha) * found.sums.gram[i]
                for i, asked in enumerate(points[1:], 1)
            )
            unit = loss.gram_after(evaluation.total)
            gram = unit * gram + (after - unit * before)
            doubt *= self.share
        if part is not None and read:
            reuse = reuse.read(gram, part.gram, moved)
            gram = reuse.gram(part.gram)
        elif part is not None:
            reuse = reuse.carried(moved)
            gram = reuse.gram(part.gram)
            doubt = self.share * reuse.way
        evaluation = replace(evaluation.with_gram(gram), doubt=doubt)
        quadratic = self.sample.quadratic(evaluation, whitening)
        stopped = self.observe(
            Iterate(
                evaluation=evaluation,
                quadratic=quadratic,
                decrement=quadratic.decrement,
                step="anchor",
                step_norm=0.0,
                region=TrustRegion(known.radius),
                candidates=1,
                rows=rows,
                sketched=rows,
                draw=found.draw,
                known=None,
            )
        )
        return evaluation, replace(known, part=part, reuse=reuse, stopped=stopped)

    def propose(self, at: Iterate, region: TrustRegion) -> Proposal:
        """Return the minimiser of the surrogate within the trust radius.

        If the sample cannot say anything, return the steps of the quadratic model.
        """
        known: SampleKnowledge = at.known
        part, evaluation = known.part, at.evaluation
        if known.stopped:
            return Proposal([], known)
        if part is None:
            return QuadraticProposer().propose(at, region)
        known = replace(known, radius=region.radius)
        surrogate = Surrogate(self.sample, evaluation, part)
        outcome = descend(
            surrogate,
            replace(
                at,
                evaluation=surrogate.tilt(part),
                region=TrustRegion(min(region.radius, RADIUS), limit=region.radius),
                draw=Draw(),
                known=SketchAverage(),
            ),
            proposer=QuadraticProposer(),
            termination=Termination(
                target=PRECISION * min(at.quadratic.decrement, self.sample.scale),
                scale=self.sample.scale,
                max_iter=MAX_ITER,
                least_radius=LEAST_ROOM * region.radius,
            ),
            observe=self.observe,
        )
        if outcome.status is Status.CALLBACK_STOP:
            return Proposal([], known)
        best, inner = outcome.at, outcome.at.region
        basis = at.quadratic.whitening.basis
        last = best.quadratic.newton
        if last is None or la.norm(last) > inner.reach:
            last = np.zeros(basis.shape[1])
        step = Step("corrected", inner.moved + last)
        if not step.norm:
            return QuadraticProposer().propose(replace(at, known=known), region)
        delta = basis @ last
        moved = best.evaluation.x - evaluation.x + delta
        there = best.evaluation.after(delta)
        whole, own = evaluation.predict(moved), part.predict(moved)
        log_alpha, kappa = (
            w + t - p for w, t, p in zip(whole, (there.log_alpha, there.kappa), own, strict=True)
        )
        promised = evaluation.loss - best.evaluation.loss + best.quadratic.reduction(last)
        hessian = not known.reuse.lasts(step.norm, at.decrement)
        trial = Trial(step, TrialPoint(there.x, log_alpha, kappa), promised, hessian)
        reuse = known.reuse.stepped(at.decrement)
        return Proposal([trial], replace(known, next=there, reuse=reuse))
