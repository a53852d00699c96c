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

from dresoftmax.guides import QuadraticGuide
from dresoftmax.journal import Journal
from dresoftmax.newton import Fallback, Outcome, minimise
from dresoftmax.objective import Objective, Start
from dresoftmax.stopping import Watch
from dresoftmax.subproblem import Metric, Quadratic

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
    origin: Start,
    radius: float,
    b_norm: float,
    journal: Journal,
) -> tuple[Start, float, Metric | None]:
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
    for start in _starts(first, origin, journal):
        watch = Watch(target=FIRST_TOLERANCE * b_norm, b_norm=b_norm, max_iter=FIRST_MAX_ITER)
        end = minimise(
            first, start, guide=QuadraticGuide(), watch=watch, radius=radius, observe=observe
        )
        ends.append(end)
        if journal.stopped:
            break
    best = min(ends, key=lambda end: end.at.model.loss).at
    if not journal.stopped:
        watch = Watch(target=TOLERANCE * b_norm, b_norm=b_norm, max_iter=MAX_ITER)
        radius = max(best.radius, LEAST_RADIUS)
        start = Start.at(best.model)
        end = minimise(
            whole, start, guide=QuadraticGuide(), fallback=Fallback.opposite(start), strict=False,
            watch=watch, radius=radius, observe=observe,
        )  # fmt: skip
        best = end.at
    metric = best.quadratic.metric
    known = metric if metric.rank == len(best.model.x) else None
    return Start.at(best.model), max(best.radius, LEAST_RADIUS), known


def _starts(objective: Objective, origin: Start, journal: Journal) -> list[Start]:
    """Return points ±y, of unit RMS z, or shorter where α is not positive.

    y is the direction of lowest curvature at zero.  Where α is not positive at zero, for a
    unit like sinh, it is the directions that raise α and ⟨u, b⟩ most steeply.
    """
    evaluation = objective.evaluate([origin], None, metric=True)
    journal.count(evaluation.sums.rows)
    model = evaluation.models[0]
    metric, _ = objective.metric(evaluation)
    if not metric.rank:
        return [origin]
    if model is not None:
        lowest = Quadratic(model.gradient, model.hessian, metric, 0.0).lowest
        ways = [metric.basis @ lowest]
    else:
        slopes = [metric.basis.T @ evaluation.sums.vectors[0, which] for which in (2, 0)]
        ways = [metric.basis @ (slope / la.norm(slope)) for slope in slopes if slope.any()]
    sides = [sign * way for way in ways for sign in (1.0, -1.0)]
    deltas = [length * side for side in sides for length in LENGTHS]
    evaluation = objective.evaluate(
        [Start(delta, *model.predict(delta)) if model else Start(delta, origin.log_alpha, 0.0)
         for delta in deltas], None,
    )  # fmt: skip
    journal.count(evaluation.sums.rows)
    inside = evaluation.models
    starts = []
    for i in range(len(sides)):
        models = inside[i * len(LENGTHS) : (i + 1) * len(LENGTHS)]
        starts += [Start.at(model) for model in models if model is not None][:1]
    if not starts and model is None:
        raise ValueError(
            "no x was found at which alpha, the sum of u(A @ x), is positive; pass such a point "
            "as x0"
        )
    return starts or [origin]
