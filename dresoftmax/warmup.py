"""The start: the problem on a sample of its rows, solved by the driver alone.

The rows are drawn in one round trip and solved in this process, first a small
part of them, then all.  What comes out is a point whose distance to the
solution is the sample's statistical error, and which costs a fraction of one
read; the Newton method on all rows is then left with its last, quadratic steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dresoftmax.engines import Engine
from dresoftmax.engines.threads import ThreadsEngine
from dresoftmax.journal import Journal
from dresoftmax.newton import minimise
from dresoftmax.objective import Objective, Start
from dresoftmax.sampling import SamplePlan, draw_rows

__all__ = ["solve_sample"]

# A sample says no more than this about the solution, relative to ‖b‖.
TOLERANCE = 1e-3
MAX_ITER = 50
LEAST_RADIUS = 0.1


def solve_sample(
    engine: Engine,
    plan: SamplePlan,
    sizes: Sequence[float],
    problem: Callable[..., Objective],
    start: Start,
    radius: float,
    journal: Journal,
) -> tuple[Start, float]:
    """Draw a sample and solve growing parts of it, each from the last solution.

    Parameters
    ----------
    engine : Engine
        Holds all rows.
    plan : SamplePlan
        How the rows are drawn.
    sizes : sequence of float
        Expected rows of each part, the last that of the whole sample.
    problem : callable
        Makes an objective, given an engine, ``hessian`` and ``sketch_size``.
    start, radius
        Where to begin, and the first trust radius.

    Returns
    -------
    start, radius
        Where to go on, and the trust radius there.
    """
    sample = engine.reduce(partial(draw_rows, plan))
    journal.count(sample.rows)
    for size in sizes:
        part = ThreadsEngine([sample.cut(size)])
        outcome = minimise(
            problem(part, hessian="exact", sketch_size=0.0),
            start,
            target=TOLERANCE * plan.b_norm,
            b_norm=plan.b_norm,
            max_iter=MAX_ITER,
            radius=radius,
            observe=journal.phase("sample"),
        )
        start = Start.at(outcome.at.model)
        radius = max(outcome.at.radius, LEAST_RADIUS)
        if journal.stopped:
            break
    return start, radius
