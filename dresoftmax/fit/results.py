"""The end of an iteration → the result that a user sees, in words and numbers.

Nothing is computed here that the iteration does not know already.
"""

from __future__ import annotations

import math

import numpy as np

from dresoftmax.optimize.history import FitHistory
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


def result_of(
    journal: FitHistory, target_decrement: float, kind: str, names: tuple[str, ...] | None
) -> SolveResult:
    """Return the result of one target's fit.

    Parameters
    ----------
    target_decrement : float
        The decrement that was to be reached.
    kind : str
        The kind of Hessian that was used.
    names : tuple of str or None
        Those of A's columns.
    """
    outcome = journal.outcome
    assert outcome is not None, "the fit has begun"
    model, quadratic = outcome.at.model, outcome.at.quadratic
    message = MESSAGES[outcome.status]
    if kind != "exact" and outcome.status in (Status.NUMERICAL_LIMIT, Status.ITERATION_LIMIT):
        message += SKETCH_ADVICE
    newton = quadratic.newton
    error = math.inf
    if newton is not None:
        error = float(np.linalg.norm(quadratic.metric.basis @ newton))
        if outcome.at.step == "unread":
            error *= outcome.at.decrement / quadratic.decrement
    return SolveResult(
        x=model.x,
        fun=journal.in_full(model.loss),
        jac=journal.in_full(model.gradient),
        nit=outcome.iterations,
        success=outcome.status is Status.CONVERGED,
        status=outcome.status,
        message=message,
        decrement=outcome.at.decrement,
        target_decrement=target_decrement,
        alpha=model.alpha,
        x_error_estimate=error,
        data_passes=journal.data_passes,
        hessian_kind=kind,
        rank=quadratic.metric.rank,
        history=journal.records,
        names=names,
    )
