"""The fit of one target: solve its sample, then all rows, guided by the sample.

All targets have a problem and a `FitPlan` in common.  Each has its own number, its own start
and its own function that reads.  Nothing is known of other targets here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.engines.threads import cores
from dresoftmax.model.row_sums import RowSums
from dresoftmax.optimize.hessian_reuse import HessianReuse
from dresoftmax.optimize.history import FitHistory
from dresoftmax.optimize.initialization import solve_sample
from dresoftmax.optimize.iterate import Fallback
from dresoftmax.optimize.newton import minimise
from dresoftmax.optimize.objective import Objective
from dresoftmax.optimize.proposals import QuadraticProposer, StepProposer
from dresoftmax.optimize.surrogate import SampleKnowledge, SurrogateProposer
from dresoftmax.optimize.termination import Termination
from dresoftmax.problem import Problem
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query
from dresoftmax.reductions.row_sample import RowSample

__all__ = ["FitPlan", "fit_target"]

# First trust radius, as RMS change of z: exp(z) changes by a factor of e.
RADIUS = 1.0
# By which law the decrement falls, as far as it can be foreseen.
LAWS = {"exact": "quadratic", "carried": "linear", "sketched": "none"}


@dataclass(frozen=True, slots=True)
class FitPlan:
    """What the fits of all targets have in common beside the problem.

    Attributes
    ----------
    tol : float
        Relative to the scale of the loss.
    max_iter, seed : int
    hessian : {"exact", "leverage", "uniform", "countsketch"}
        Which rows enter a Hessian if one is read.
    sketch_size : float
        Rows that enter a sketched one.
    use : {"exact", "carried", "sketched"}
        What is made of the Hessians of all rows, see `HessianReuse`.
    sample : RowSample or None
        Rows that the driver holds.
    sizes : (float, float)
        Rows of it to solve first, and all of a target's.
    """

    tol: float
    max_iter: int
    seed: int
    hessian: str
    sketch_size: float
    use: str
    sample: RowSample | None
    sizes: tuple[float, float]


def fit_target(
    problem: Problem,
    plan: FitPlan,
    x0: np.ndarray | None,
    history: FitHistory,
    read: Callable[[Query], RowSums],
) -> None:
    """Fit the target of `problem`, from `x0` or from the solution of its sample.

    Raises
    ------
    ValueError
        If α ≤ 0 at `x0`, or A holds NaN or infinity.
    """
    origin = problem.origin
    loss = problem.loss.in_units_of(origin.log_alpha)
    totals = problem.target_totals
    full = replace(
        problem.objective(plan.hessian, plan.sketch_size, plan.seed), read=read, loss=loss
    )
    first = origin if x0 is None else replace(origin, x=x0, kappa=0.0)
    radius, whitening, law = RADIUS, None, "none"
    proposer: StepProposer = QuadraticProposer(sketched=plan.use == "sketched")
    if plan.sample is not None:
        history.count(plan.sample.read)
        part, whole = (plan.sample.cut(size, problem.target) for size in plan.sizes)
        # Several targets use the cores side by side.
        threads = cores() if problem.totals.targets == 1 else 1
        if x0 is None:
            first, radius, whitening = solve_sample(
                _over(part, threads, full), _over(whole, threads, full), origin, RADIUS, history
            )
            loss = loss.in_units_of(first.log_alpha)
            full = replace(full, loss=loss)
        if not history.stopped:
            law = LAWS[plan.use]
            proposer = SurrogateProposer(
                _over(whole, threads, full), whole.rows,
                start=SampleKnowledge(first, HessianReuse(plan.use)),
                observe=history.phase("sample"),
            )  # fmt: skip
    fallback: Fallback | None = Fallback.opposite(first)
    if problem.unit.at_zero > 0.0:
        at_origin = loss.unit(origin.log_alpha) * loss.at_origin(totals)[0]
        # Rounding must not make the origin worse than itself, and have it read twice.
        fallback = None if first is origin else Fallback(origin, at_origin)
    scale = loss.scale(totals)
    history.outcome = minimise(
        full,
        first,
        proposer=proposer,
        fallback=fallback,
        strict=x0 is not None,
        termination=Termination(
            target=plan.tol * scale,
            scale=scale,
            max_iter=plan.max_iter,
            sketched=plan.use == "sketched",
            law=law,
        ),
        radius=radius,
        whitening=whitening,
        observe=history.phase("full"),
    )


def _over(block: Block, threads: int, full: Objective) -> Objective:
    """Return an objective over the rows of a sample, with exact Hessians."""

    def read(query: Query) -> RowSums:
        return evaluate_blocks([query], [block], threads).each[0]

    return replace(full, read=read, target=0, hessian="exact", sketch_size=0.0)
