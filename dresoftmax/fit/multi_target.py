"""The course of a solve on its engine: sample → fits in step → results.

Here the fits of all targets, the reads that they share, the checkpoint and whoever looks on
come together; how one fit goes is not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dresoftmax.engines.base import Engine
from dresoftmax.engines.threads import cores
from dresoftmax.fit.checkpoint import Checkpoint, ReplayLog
from dresoftmax.fit.hessian_policy import choose_hessian, sample_sizes
from dresoftmax.fit.lockstep import in_lockstep
from dresoftmax.fit.results import result_of
from dresoftmax.fit.single_target import FitSettings, fit
from dresoftmax.inputs.arguments import Dataset
from dresoftmax.model.evaluation import RowSums
from dresoftmax.model.units import AnyUnit
from dresoftmax.optimize.history import FitHistory, Observers
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query
from dresoftmax.reductions.row_sample import SamplePlan, draw_sample
from dresoftmax.reductions.totals import Totals
from dresoftmax.result import JointResult, SolveResult

__all__ = ["Options", "run"]


@dataclass(frozen=True, slots=True)
class Options:
    """What `solve` was asked for, checked; see there.  `starts` has x0 for each target."""

    starts: Sequence[np.ndarray | None]
    unit: AnyUnit
    rescaled: bool
    hessian: str
    sketch_size: int | None
    ridge: float
    tol: float
    max_iter: int
    seed: int
    checkpoint: Path | None

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return what has to be the same where a checkpoint is resumed."""
        names = ("rescaled", "hessian", "sketch_size", "ridge", "seed")
        sizes = {"columns of A": data.d, "targets": data.targets}
        w = data.w if data.w is None or isinstance(data.w, float) else "rows"
        chosen = {name: getattr(self, name) for name in names}
        return {"unit": self.unit.name} | chosen | {"w": w} | sizes


def run(
    engine: Engine,
    data: Dataset,
    profile: Totals,
    options: Options,
    observers: Observers,
    resumed: Checkpoint | None,
) -> SolveResult | JointResult:
    """Fit all targets of the rows on `engine`.

    Raises
    ------
    ValueError
        If A holds NaN or infinity, α ≤ 0 at a start, or `resumed` is of other data.
    KeyboardInterrupt
        Before each target has an iteration over all rows to return.
    """
    totals = np.stack([profile.b_sum, profile.b_norm1, profile.b_norm2])
    if resumed is not None:
        resumed.check_totals(totals)
    sizes = sample_sizes(profile, data.d)
    if sizes is None and options.unit.at_zero <= 0.0 and any(x is None for x in options.starts):
        sizes = (math.inf, math.inf)  # a start has to be found, be it on all rows
    kind, size, use = choose_hessian(
        options.hessian, options.sketch_size, profile, data.d, sizes is not None
    )
    sample = None
    if sizes is not None:
        plan = SamplePlan(sizes[1], profile.n, profile.b_norm1, profile.b_norm, options.seed)
        sample = engine.reduce(partial(draw_sample, plan))
    setting = FitSettings(
        profile=profile, d=data.d, unit=options.unit, rescaled=options.rescaled,
        ridge=options.ridge, tol=options.tol, max_iter=options.max_iter, seed=options.seed,
        hessian=kind, sketch_size=size, use=use, sample=sample, sizes=sizes or (0.0, 0.0),
    )  # fmt: skip
    journals = [FitHistory(profile.n, observers, target) for target in range(profile.targets)]
    fits = [
        partial(fit, setting, target, start, journal)
        for target, (start, journal) in enumerate(zip(options.starts, journals, strict=True))
    ]

    def read_rows(queries: Sequence[Query]) -> list[RowSums]:
        return engine.reduce(partial(evaluate_blocks, queries)).each

    tape = ReplayLog(read_rows, options.identity(data), totals, options.checkpoint, resumed)
    reads: list[int] = []

    def read(queries: Sequence[Query]) -> list[RowSums]:
        observers.show()
        answers = tape.read(queries)
        reads.append(answers[0].rows)
        return answers

    try:
        in_lockstep(fits, read, cores())
        tape.close()
    except KeyboardInterrupt:
        if any(journal.outcome is None for journal in journals):
            raise
    observers.show()
    results = [
        result_of(journal, options.tol * float(b_norm), kind, data.names)
        for journal, b_norm in zip(journals, profile.b_norm, strict=True)
    ]
    if data.targets is None:
        return results[0]
    own = sum(record.rows_read for record in observers.records if record.phase == "sample")
    drawn = 0 if sample is None else sample.read
    rows = sum(reads) + own - drawn * (profile.targets - 1)
    return JointResult(tuple(results), rows / profile.n, observers.records, data.target_names)
