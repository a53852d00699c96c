"""The guide of an iteration over all rows that has a sample of them at hand.

At a point x of which all rows have been read, the sample knows what changes around
it.  Its objective L_S is tilted so that it agrees with that of all rows to second
order,

    L̃(x + Δ) = L_S(x + Δ) + [L − L_S](x) + [∇L − ∇L_S](x)ᵀΔ + ½Δᵀ[∇²L − ∇²L_S](x)Δ,

and minimised in this process, within the trust radius.  Where a Newton step leaves
an error of C‖Δ‖², this leaves the sampling error of C, about √(d/m) of it with m
rows: most of what a second step on all rows would do is done without one.

What the sample has beyond first order also betters the predictions of α and κ for
the next read; and what they were off by all the same, the sample puts right in G:

    G(α, κ) ≈ G(α₀, κ₀) + G_S(α, κ) − G_S(α₀, κ₀).

What is known of G at one point the sample carries to another, since G − G_S hardly
changes.  So sketched Hessians of several points are averaged; and where the exact
Hessian costs much more than the rest of a read, one is made to do for all points
within a short way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg as la

from dresoftmax.model.evaluation import Evaluation
from dresoftmax.optimize.hessian_reuse import HessianReuse
from dresoftmax.optimize.newton import descend
from dresoftmax.optimize.objective import Objective, ReadResult, TrialPoint
from dresoftmax.optimize.proposals import Iterate, QuadraticProposer, Trial
from dresoftmax.optimize.quadratic_model import QuadraticModel, Whitening
from dresoftmax.optimize.termination import Termination, gradient_noise
from dresoftmax.optimize.trust_region import Step, TrustRegion
from dresoftmax.result import Status

__all__ = ["Surrogate", "SurrogateProposer"]

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
    whole, part : Model
        The models of all rows and of the sample at the point.
    """

    def __init__(self, sample: Objective, whole: Evaluation, part: Evaluation) -> None:
        self.sample = sample
        self.x = whole.x
        self.loss = whole.loss - part.loss
        self.gradient = whole.gradient - part.gradient
        self.hessian = whole.hessian - part.hessian

    def tilt(self, model: Evaluation) -> Evaluation:
        """Return a model of the sample as one of the surrogate."""
        delta = model.x - self.x
        bent = self.hessian @ delta
        return replace(
            model,
            # A tilted loss may be negative; what counts is how it falls.
            loss=model.loss + self.loss + float(self.gradient @ delta + 0.5 * delta @ bent),
            gradient=model.gradient + self.gradient + bent,
            hessian=model.hessian + self.hessian,
        )

    def evaluate(
        self, starts: Sequence[TrialPoint], guide: QuadraticModel | None, *, hessian: bool = True
    ) -> ReadResult:
        """Return the surrogate's models at all of `starts`, by one read of the sample."""
        evaluation = self.sample.evaluate(starts, guide, hessian=hessian)
        models = [model and self.tilt(model) for model in evaluation.models]
        return replace(evaluation, models=models)


class SurrogateProposer:
    """Proposes the minimiser of the surrogate.

    Parameters
    ----------
    sample : Objective
        The objective over the rows of the sample, with exact Hessians.
    rows : int
        Their number.
    own : Start or None
        The point at which the iteration is to begin, with α and κ of the sample.
    b_norm : float
        ‖b‖.
    carrier : Carrier
        What is made of the Hessians of all rows.
    observe : callable
        Sees each read of the sample; returning True ends the solve.
    """

    def __init__(
        self,
        sample: Objective,
        rows: int,
        own: TrialPoint | None,
        b_norm: float,
        carrier: HessianReuse,
        observe: Callable[[Iterate], bool],
    ) -> None:
        self.sample = sample
        self.b_norm = b_norm
        self.carrier = carrier
        self.observe = observe
        self._share = math.sqrt(sample.d / rows)
        self._radius = RADIUS
        self._own = own
        self._part: Evaluation | None = None
        self._stopped = False

    def refine(
        self, model: Evaluation, start: TrialPoint, moved: float, metric: Whitening
    ) -> Evaluation:
        """Return `model` with G put right by the sample, which is read once."""
        own = self._own
        if own is None or not np.array_equal(own.x, start.x):
            own = TrialPoint.at(model)
        read = model.doubt < math.inf
        starts = [replace(own, x=model.x)]
        if read:
            starts += [replace(start, x=model.x), TrialPoint.at(model)]
        evaluation = self.sample.evaluate(starts, None)
        rows = evaluation.sums.rows
        part = evaluation.models[0]
        if part is None or part.doubt > DOUBT:
            again = self.sample.evaluate([TrialPoint.at(part or model)], None)
            rows += again.sums.rows
            part = again.models[0]
        self._part = part
        gram, doubt = model.gram, model.doubt
        if read:
            # In units of α, as all else; what is left is the sample's to say.
            before, after = evaluation.sums.gram[1:3]
            unit = model.scale**-2 if self.sample.log_scale is None else 1.0
            gram = unit * gram + (after - unit * before)
            doubt *= self._share
        if part is not None and read:
            gram = self.carrier.read(gram, part.gram, moved)
        elif part is not None:
            gram = self.carrier.carry(part.gram, moved)
            doubt = self._share * self.carrier.way
        model = replace(model.with_gram(gram), doubt=doubt)
        quadratic = QuadraticModel(
            model.gradient, model.hessian, metric, gradient_noise(self.b_norm)
        )
        self._stopped = self.observe(
            Iterate(
                model, quadratic, quadratic.decrement, "anchor", 0.0, self._radius, 1, rows, rows
            )
        )
        return model

    def propose(self, at: Iterate, region: TrustRegion) -> list[Trial]:
        """Return the minimiser of the surrogate within the trust radius.

        Where the sample cannot say anything, return the steps of the quadratic model.
        """
        if self._stopped:
            return []
        if self._part is None:
            return QuadraticProposer().propose(at, region)
        self._radius = region.radius
        metric, model = at.quadratic.metric, at.model
        surrogate = Surrogate(self.sample, model, self._part)
        inner = TrustRegion(min(region.radius, RADIUS), limit=region.radius)
        outcome = descend(
            surrogate,
            replace(at, model=surrogate.tilt(self._part)),
            guide=QuadraticProposer(),
            region=inner,
            watch=Termination(
                target=PRECISION * min(at.quadratic.decrement, self.b_norm),
                b_norm=self.b_norm,
                max_iter=MAX_ITER,
                least_radius=LEAST_ROOM * region.radius,
            ),
            observe=self.observe,
        )
        if outcome.status is Status.CALLBACK_STOP:
            return []
        best = outcome.at
        last = best.quadratic.newton
        if last is None or la.norm(last) > min(inner.radius, inner.room):
            last = np.zeros(metric.rank)
        step = Step("corrected", inner.moved + last)
        if not step.norm:
            return QuadraticProposer().propose(at, region)
        moved, delta = best.model.x - model.x, metric.basis @ last
        start = best.model.x + delta
        whole = model.predict(moved + delta)
        part, there = self._part.predict(moved + delta), best.model.predict(delta)
        references = (w + t - p for w, t, p in zip(whole, there, part, strict=True))
        self._own = TrialPoint(start, *there)
        promised = model.loss - best.model.loss + best.quadratic.reduction(last)
        lasts = self.carrier.lasts(step.norm, at.decrement)
        return [Trial(step, TrialPoint(start, *references), promised, hessian=not lasts)]
