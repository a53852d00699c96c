"""The fit of all targets of a problem: sample → fits in lockstep → results.

The fits, the reads that they share, the checkpoint and the observers come together here.
How one fit works is not known here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np

from dresoftmax.engines.threads import cores
from dresoftmax.fit.checkpoint import ReplayLog
from dresoftmax.fit.hessian_policy import choose_hessian, sample_sizes
from dresoftmax.fit.lockstep import in_lockstep
from dresoftmax.fit.options import FitOptions
from dresoftmax.fit.results import result_of
from dresoftmax.fit.single_target import FitPlan, fit_target
from dresoftmax.model.row_sums import RowSums
from dresoftmax.optimize.history import FitHistory, Observer, Observers
from dresoftmax.problem import Problem
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query
from dresoftmax.reductions.row_sample import SamplePlan, draw_sample
from dresoftmax.result import JointResult, SolveResult

__all__ = ["fit"]

# Σb may differ from 1 by so much without a word.
SUM_TOLERANCE = 1e-3


def fit(problem: Problem, options: FitOptions) -> SolveResult | JointResult:
    """Fit all targets of a problem.

    Raises
    ------
    ValueError
        If A holds NaN or infinity, α ≤ 0 at a start, or the resumed checkpoint is of other data.
    KeyboardInterrupt
        Before each target has an iteration over all rows to return.
    """
    totals = problem.totals
    _check_sums(totals.b_sum)
    sums_of_b = np.stack([totals.b_sum, totals.b_norm1, totals.b_norm2])
    if options.resumed is not None:
        options.resumed.check_totals(sums_of_b)
    identity, starts = options.identity(problem.data), options.starts(problem.data)

    def read_rows(queries: Sequence[Query]) -> list[RowSums]:
        return problem.engine.reduce(partial(evaluate_blocks, queries)).each

    log = ReplayLog(read_rows, identity, sums_of_b, options.checkpoint, options.resumed)
    reads: list[int] = []
    with ExitStack() as stack:
        observers = Observers(_watching(options, problem, stack), at_once=totals.targets == 1)
        plan = _plan(problem, options)
        histories = [FitHistory(totals.n, observers, target) for target in range(totals.targets)]
        fits = [
            partial(fit_target, problem.of_target(history.target), plan, x0, history)
            for history, x0 in zip(histories, starts, strict=True)
        ]

        def read(queries: Sequence[Query]) -> list[RowSums]:
            observers.show()
            answers = log.read(queries)
            reads.append(answers[0].rows)
            return answers

        try:
            in_lockstep(fits, read, cores())
            log.close()
        except KeyboardInterrupt:
            if any(history.outcome is None for history in histories):
                raise
        observers.show()
    results = [
        result_of(problem.of_target(history.target), history, options.tol, plan.hessian)
        for history in histories
    ]
    if problem.data.targets is None:
        return results[0]
    own = sum(record.rows_read for record in observers.records if record.phase == "sample")
    drawn = 0 if plan.sample is None else plan.sample.read
    rows = sum(reads) + own - drawn * (totals.targets - 1)
    return JointResult(
        tuple(results), rows / totals.n, observers.records, problem.data.target_names
    )


def _plan(problem: Problem, options: FitOptions) -> FitPlan:
    """Choose how Hessians are formed, and draw the sample."""
    totals = problem.totals
    sizes = sample_sizes(totals, problem.d)
    if sizes is None and problem.unit.at_zero <= 0.0 and options.x0 is None:
        sizes = (math.inf, math.inf)  # a start has to be found, if need be on all rows
    kind, size, use = choose_hessian(
        options.hessian, options.sketch_size, totals, problem.d, sizes is not None
    )
    sample = None
    if sizes is not None:
        drawing = SamplePlan(
            sizes[1], problem.loss, totals.n, totals.b_norm1, totals.b_norm, options.seed
        )
        sample = problem.engine.reduce(partial(draw_sample, drawing))
    return FitPlan(
        tol=options.tol,
        max_iter=options.max_iter,
        seed=options.seed,
        hessian=kind,
        sketch_size=size,
        use=use,
        sample=sample,
        sizes=sizes or (0.0, 0.0),
    )


def _watching(options: FitOptions, problem: Problem, stack: ExitStack) -> list[Observer]:
    """Return the observers: the callback, and the table of iterations."""
    watching: list[Observer] = [] if options.callback is None else [options.callback]
    if options.progress:
        from dresoftmax.progress import Progress

        watching.append(stack.enter_context(Progress(options.tol * problem.totals.b_norm)))
    return watching


def _check_sums(sums: np.ndarray) -> None:
    """Warn if Σb is far from one."""
    off = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
    if off.size:
        first = "b" if len(sums) == 1 else f"b[:, {off[0]}]"
        others = f" ({off.size} of {len(sums)} targets are like that)" if len(sums) > 1 else ""
        warnings.warn(
            f"{first} sums to {sums[off[0]]:.6g}{others}, but the fitted distribution sums to "
            "one; divide b by its sum, unless this is meant",
            UserWarning,
            stacklevel=4,
        )
