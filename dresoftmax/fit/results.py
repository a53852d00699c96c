"""The end of an iteration → the result that a user sees, in words and numbers.

Nothing is computed here that the iteration does not know already.
"""

from __future__ import annotations

import math

import numpy as np

from dresoftmax.model.units import Unit
from dresoftmax.optimize.history import FitHistory
from dresoftmax.problem import Problem
from dresoftmax.result import SolveResult, Status

__all__ = ["result_of"]

MESSAGES = {
    Status.CONVERGED: "Converged: the Newton decrement is at most tol * norm(b).",
    Status.ITERATION_LIMIT: (
        "Stopped after max_iter iterations, before the decrement reached tol * norm(b)."
    ),
    Status.CALLBACK_STOP: "Stopped by the callback.",
    Status.INTERRUPTED: "Interrupted; x is the best point found until then.",
    Status.SOLUTION_AT_INFINITY: (
        "The solution lies at infinity: x grows while the loss hardly changes. A column of A is "
        "(nearly) constant, or b puts (nearly) all of its mass on one row. Remove the column or "
        "centre it, or add ridge or w (the loss is of order norm(b)**2, and so should they be)."
    ),
    Status.NUMERICAL_LIMIT: (
        "Stopped where rounding errors hide all further progress, before the decrement reached "
        "tol * norm(b); ask for a larger tol, or store A in float64."
    ),
}
SKETCH_ADVICE = (
    " The Hessian was sketched, and the sketch may have missed directions in which few rows differ:"
    ' ask for hessian="exact" or a larger sketch_size.'
)


def result_of(problem: Problem, history: FitHistory, tol: float, kind: str) -> SolveResult:
    """Return the result of the fit of a problem's target.

    `kind` is the kind of Hessian that was used.
    """
    outcome = history.outcome
    assert outcome is not None, "the fit has begun"
    evaluation, quadratic = outcome.at.evaluation, outcome.at.quadratic
    message = MESSAGES[outcome.status]
    if kind != "exact" and outcome.status in (Status.NUMERICAL_LIMIT, Status.ITERATION_LIMIT):
        message += SKETCH_ADVICE
    newton = quadratic.newton
    error = math.inf
    if newton is not None:
        error = float(np.linalg.norm(quadratic.whitening.basis @ newton))
        if outcome.at.step == "unread":
            error *= outcome.at.decrement / quadratic.decrement
    totals = problem.target_totals
    return SolveResult(
        x=evaluation.x,
        fun=evaluation.full_loss,
        jac=evaluation.full_gradient,
        nit=outcome.iterations,
        success=outcome.status is Status.CONVERGED,
        status=outcome.status,
        message=message,
        decrement=outcome.at.decrement,
        target_decrement=tol * problem.loss.scale(totals),
        alpha=evaluation.alpha,
        x_error_estimate=error,
        data_passes=history.data_passes,
        hessian_kind=kind,
        rank=quadratic.whitening.rank,
        history=history.records,
        names=problem.data.names,
        unit=problem.unit if isinstance(problem.unit, Unit) else problem.unit.name,
        loss=problem.loss.name,
        ridge=problem.ridge,
        w=problem.data.scalar_w,
        n=problem.n,
        b_sum=totals.b_sum,
    )
