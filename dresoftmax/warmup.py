"""The start: the problem on a sample of its rows, solved by the driver alone.

The rows are drawn in one round trip.  A small part of them is solved first, from the
two points that lie opposite each other along the direction of lowest curvature at
zero: the objective is not convex, and where it has a better and a worse valley, this
is the direction in which they part.  Then all of the sample is solved from the better
solution.  What comes out is a point whose distance
to the solution is the sample's statistical error, and which costs a fraction of one
read; the Newton method on all rows is then left with its last, quadratic steps, and
has the sample for a guide.
"""

from __future__ import annotations

from functools import partial

from dresoftmax.engines import Engine
from dresoftmax.guides import QuadraticGuide
from dresoftmax.journal import Journal
from dresoftmax.newton import Outcome, minimise
from dresoftmax.objective import Objective, Start
from dresoftmax.sampling import Sample, SamplePlan, draw_rows
from dresoftmax.stopping import Watch
from dresoftmax.subproblem import Metric, Quadratic

__all__ = ["draw", "solve_sample"]

# A sample says no more than this about the solution, relative to ‖b‖.
FIRST_TOLERANCE, TOLERANCE = 1e-2, 1e-3
FIRST_MAX_ITER, MAX_ITER = 60, 10
LEAST_RADIUS = 0.5
# How far from zero the iteration starts, as RMS of z: the first of these at which
# α is positive.
LENGTHS = (1.0, 0.5, 0.25, 0.125)


def draw(engine: Engine, plan: SamplePlan, journal: Journal) -> Sample:
    """Draw a sample of all rows, in one round trip."""
    sample = engine.reduce(partial(draw_rows, plan))
    journal.count(sample.read)
    return sample


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
            whole, start, guide=QuadraticGuide(), watch=watch, radius=radius, observe=observe
        )
        best = end.at
    metric = best.quadratic.metric
    known = metric if metric.rank == len(best.model.x) else None
    return Start.at(best.model), max(best.radius, LEAST_RADIUS), known


def _starts(objective: Objective, origin: Start, journal: Journal) -> list[Start]:
    """Return the points ±y, of unit RMS z, or shorter where α is not positive.

    y is the direction of lowest curvature at zero.
    """
    evaluation = objective.evaluate([origin], None, metric=True)
    journal.count(evaluation.sums.rows)
    model = evaluation.models[0]
    metric, _ = objective.metric(evaluation)
    if model is None or not metric.rank:
        return [origin]
    way = metric.basis @ Quadratic(model.gradient, model.hessian, metric, 0.0).lowest
    deltas = [sign * length * way for sign in (1.0, -1.0) for length in LENGTHS]
    evaluation = objective.evaluate([Start(delta, *model.predict(delta)) for delta in deltas], None)
    journal.count(evaluation.sums.rows)
    inside = evaluation.models
    starts = []
    for models in (inside[: len(LENGTHS)], inside[len(LENGTHS) :]):
        starts += [Start.at(model) for model in models if model is not None][:1]
    return starts or [origin]
