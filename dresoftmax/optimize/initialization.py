"""The start: the problem on a sample of its rows, solved by the driver alone.

A small part of the sample is solved first, from the two points that lie opposite each
other along the direction of lowest curvature at zero: the objective is not convex, and
its better and worse valleys part in this direction.  Then all of the sample is solved from
the better solution.  The point that is found is as far from the solution as the sample's
statistical error, and costs a fraction of one read.  Only the last, quadratic steps of
Newton's method are left for all rows, and the sample proposes them.
"""

from __future__ import annotations

import scipy.linalg as la

from dresoftmax.model.evaluation import Evaluation, TrialPoint
from dresoftmax.optimize.history import FitHistory
from dresoftmax.optimize.iterate import Fallback
from dresoftmax.optimize.newton import Outcome, minimise
from dresoftmax.optimize.objective import Objective
from dresoftmax.optimize.proposals import QuadraticProposer
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.termination import Termination
from dresoftmax.optimize.whitening import Whitening

__all__ = ["solve_sample"]

# A sample says no more than this about the solution, relative to the scale of the loss.
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
    history: FitHistory,
) -> tuple[TrialPoint, float, Whitening | None]:
    """Solve a small part of the sample from two starts, then all of it from the better end.

    Parameters
    ----------
    first, whole : Objective
        The problem on a small part of the sample, and on all of it.
    origin : TrialPoint
        The point x = 0.
    radius : float
        First trust radius.
    history : FitHistory
        Is told of the iterations.

    Returns
    -------
    start, radius, whitening
        Where to go on, with α and κ of the sample, the trust radius there, and the
        whitening: None unless the sample has the full rank, and with it A.
    """
    observe, scale = history.phase("sample"), whole.scale
    ends: list[Outcome] = []
    starts, at_origin = _starts(first, origin, history)
    for start in starts:
        end = minimise(
            first, start, proposer=QuadraticProposer(), radius=radius, observe=observe,
            termination=Termination(
                target=FIRST_TOLERANCE * scale, scale=scale, max_iter=FIRST_MAX_ITER
            ),
        )  # fmt: skip
        ends.append(end)
        if history.stopped:
            break
    best = min(ends, key=lambda end: end.at.evaluation.loss).at
    if not history.stopped:
        start = best.evaluation.point
        # Few rows can be fitted at a point far away, at which others are of another order.
        fallback = Fallback.opposite(start)
        if at_origin is not None:
            fallback = Fallback(origin, at_origin.loss)
        best = minimise(
            whole, start, proposer=QuadraticProposer(), fallback=fallback, strict=False,
            termination=Termination(target=TOLERANCE * scale, scale=scale, max_iter=MAX_ITER),
            radius=max(best.region.radius, LEAST_RADIUS), observe=observe,
        ).at  # fmt: skip
    whitening = best.quadratic.whitening
    known = whitening if whitening.rank == whole.d else None
    return best.evaluation.point, max(best.region.radius, LEAST_RADIUS), known


def _starts(
    objective: Objective, origin: TrialPoint, history: FitHistory
) -> tuple[list[TrialPoint], Evaluation | None]:
    """Return points ±y, of unit RMS z, or shorter if α is not positive; and what is at zero.

    y is the direction of lowest curvature at zero.  If α is not positive at zero, for a
    unit like sinh, it is the directions of the loss's own `ascents`.
    """
    found = objective.evaluate([origin], column_gram=True)
    history.count(found.sums.rows)
    evaluation = found.evaluations[0]
    whitening, _ = objective.whitening(found)
    basis = whitening.basis
    if not whitening.rank:
        return [origin], evaluation
    if evaluation is not None:
        model = QuadraticModel(evaluation.gradient, evaluation.hessian, whitening, noise=0.0)
        ways = [basis @ model.lowest]
    else:
        slopes = [basis.T @ way for way in objective.loss.ascents(found.sums.vectors[0])]
        ways = [basis @ (slope / la.norm(slope)) for slope in slopes if slope.any()]
    deltas = [length * sign * way for way in ways for sign in (1.0, -1.0) for length in LENGTHS]
    found = objective.evaluate(
        [
            TrialPoint(delta, origin.log_alpha, 0.0) if evaluation is None
            else evaluation.after(delta)
            for delta in deltas
        ]
    )  # fmt: skip
    history.count(found.sums.rows)
    starts = []
    for first in range(0, len(deltas), len(LENGTHS)):
        inside = [each for each in found.evaluations[first : first + len(LENGTHS)] if each]
        starts += [each.point for each in inside[:1]]
    if not starts and evaluation is None:
        raise ValueError(
            "no x was found at which alpha, the sum of u(A @ x), is positive; pass such a point "
            "as x0"
        )
    return starts or [origin], evaluation
