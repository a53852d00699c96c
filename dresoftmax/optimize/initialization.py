"""The start: the problem on a sample of its rows, solved by the driver alone.

A small part of the sample is solved first, from the two points that lie opposite each
other along the direction of lowest curvature at zero: the objective is not convex, and
where it has a better and a worse valley, this is the direction in which they part.  Then
all of the sample is solved from the better solution.  What comes out is a point whose
distance to the solution is the sample's statistical error, and which costs a fraction of
one read; the Newton method on all rows is then left with its last, quadratic steps, and
has the sample for a guide.
"""

from __future__ import annotations

import scipy.linalg as la

from dresoftmax.model.evaluation import Evaluation
from dresoftmax.optimize.history import FitHistory
from dresoftmax.optimize.newton import Fallback, Outcome, minimise
from dresoftmax.optimize.objective import Objective, TrialPoint
from dresoftmax.optimize.proposals import QuadraticProposer
from dresoftmax.optimize.quadratic_model import QuadraticModel, Whitening
from dresoftmax.optimize.termination import Termination

__all__ = ["solve_sample"]

# A sample says no more than this about the solution, relative to ‖b‖.
FIRST_TOLERANCE, TOLERANCE = 1e-2, 1e-3
FIRST_MAX_ITER, MAX_ITER = 60, 10
LEAST_RADIUS = 0.5
# How far from zero the iteration starts, as RMS of z: the first of these at which
# α is positive.
LENGTHS = (1.0, 0.5, 0.25, 0.125)


def solve_sample(
    first: Objective,
    whole: Objective,
    origin: TrialPoint,
    radius: float,
    b_norm: float,
    journal: FitHistory,
) -> tuple[TrialPoint, float, Whitening | None]:
    """Solve a small part of the sample from two starts, then all of it from the better end.

    Parameters
    ----------
    first, whole : Objective
        The problem on a small part of the sample, and on all of it.
    origin : Start
        The point x = 0.
    radius : float
        First trust radius.
    b_norm : float
        ‖b‖.

    Returns
    -------
    start, radius, metric
        Where to go on, with α and κ of the sample, the trust radius there, and the
        metric: None unless the sample has the full rank, and with it A.
    """
    observe = journal.phase("sample")
    ends: list[Outcome] = []
    starts, at_origin = _starts(first, origin, journal)
    for start in starts:
        watch = Termination(target=FIRST_TOLERANCE * b_norm, b_norm=b_norm, max_iter=FIRST_MAX_ITER)
        end = minimise(
            first, start, guide=QuadraticProposer(), watch=watch, radius=radius, observe=observe
        )
        ends.append(end)
        if journal.stopped:
            break
    best = min(ends, key=lambda end: end.at.model.loss).at
    if not journal.stopped:
        watch = Termination(target=TOLERANCE * b_norm, b_norm=b_norm, max_iter=MAX_ITER)
        radius = max(best.radius, LEAST_RADIUS)
        start = TrialPoint.at(best.model)
        # Few rows can be fitted from far away, where the others are of another order.
        fallback = Fallback.opposite(start)
        if at_origin is not None:
            fallback = Fallback(origin, at_origin.loss)
        end = minimise(
            whole, start, guide=QuadraticProposer(), fallback=fallback, strict=False, watch=watch,
            radius=radius, observe=observe,
        )  # fmt: skip
        best = end.at
    metric = best.quadratic.metric
    known = metric if metric.rank == len(best.model.x) else None
    return TrialPoint.at(best.model), max(best.radius, LEAST_RADIUS), known


def _starts(
    objective: Objective, origin: TrialPoint, journal: FitHistory
) -> tuple[list[TrialPoint], Evaluation | None]:
    """Return points ±y, of unit RMS z, or shorter where α is not positive; and the model at zero.

    y is the direction of lowest curvature at zero.  Where α is not positive at zero, for a
    unit like sinh, it is the directions that raise α and ⟨u, b⟩ most steeply.
    """
    evaluation = objective.evaluate([origin], None, metric=True)
    journal.count(evaluation.sums.rows)
    model = evaluation.models[0]
    metric, _ = objective.metric(evaluation)
    if not metric.rank:
        return [origin], model
    if model is not None:
        lowest = QuadraticModel(model.gradient, model.hessian, metric, 0.0).lowest
        ways = [metric.basis @ lowest]
    else:
        slopes = [metric.basis.T @ evaluation.sums.vectors[0, which] for which in (2, 0)]
        ways = [metric.basis @ (slope / la.norm(slope)) for slope in slopes if slope.any()]
    sides = [sign * way for way in ways for sign in (1.0, -1.0)]
    deltas = [length * side for side in sides for length in LENGTHS]
    evaluation = objective.evaluate(
        [
            TrialPoint(delta, *model.predict(delta))
            if model
            else TrialPoint(delta, origin.log_alpha, 0.0)
         for delta in deltas], None,
    )  # fmt: skip
    journal.count(evaluation.sums.rows)
    inside = evaluation.models
    starts = []
    for i in range(len(sides)):
        models = inside[i * len(LENGTHS) : (i + 1) * len(LENGTHS)]
        starts += [TrialPoint.at(model) for model in models if model is not None][:1]
    if not starts and model is None:
        raise ValueError(
            "no x was found at which alpha, the sum of u(A @ x), is positive; pass such a point "
            "as x0"
        )
    return starts or [origin], model
