"""The record of a solve: what each iteration found and cost, and the observers that see it.

Only a `FitHistory` counts the rows read for a target into data passes.  It observes: the
iteration goes on as it would have without it, unless a callback asks for the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from dresoftmax.optimize.newton import Outcome
from dresoftmax.optimize.proposals import Iterate
from dresoftmax.result import IterationRecord, Status

__all__ = ["FitHistory", "Observer", "Observers"]

Observer = Callable[[IterationRecord], bool | None]


class Observers:
    """The observers of a solve, for all its targets.

    Parameters
    ----------
    each : sequence of callable
        Each sees every record; one that returns True ends the solve.
    at_once : bool
        Whether a record is shown when it is made, or waits for `show`.  If several
        targets are fitted side by side it waits, so that the order does not depend on
        the timing of threads.

    Attributes
    ----------
    records : list of IterationRecord
        All that was shown, in order.
    stopped : bool
        Whether one of them has asked for the end.
    """

    def __init__(self, each: Sequence[Observer], *, at_once: bool = True) -> None:
        self.each = each
        self.records: list[IterationRecord] = []
        self.stopped = False
        self._at_once = at_once
        self._waiting: list[IterationRecord] = []
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time since the solve began."""
        return time.perf_counter() - self._began

    def tell(self, record: IterationRecord) -> None:
        """Take note of a record."""
        self._waiting.append(record)
        if self._at_once:
            self.show()

    def show(self) -> None:
        """Show the records that wait, target by target."""
        waiting = sorted(self._waiting, key=lambda record: record.target)
        self._waiting.clear()
        for record in waiting:
            self.records.append(record)
            # Every observer sees the record, also if one of them asks for the end.
            answers = [observer(record) for observer in self.each]
            self.stopped = self.stopped or any(answers)


class FitHistory:
    """Collects the records of one target's fit.

    Parameters
    ----------
    n : int
        Rows of A.
    observers : Observers
        Who sees the records.
    target : int
        Which target.

    Attributes
    ----------
    records : list of IterationRecord
    outcome : Outcome or None
        Where the fit ended, before that the last iteration over all rows, if any.
    rows_read : int
    """

    def __init__(self, n: int, observers: Observers, target: int = 0) -> None:
        self.n = n
        self.observers = observers
        self.target = target
        self.records: list[IterationRecord] = []
        self.outcome: Outcome | None = None
        self.rows_read = 0
        self._pending = 0

    @property
    def stopped(self) -> bool:
        """Whether an observer has asked for the end."""
        return self.observers.stopped

    @property
    def data_passes(self) -> float:
        """Rows of A read so far, divided by n."""
        return self.rows_read / self.n

    def count(self, rows: int) -> None:
        """Count rows that were read outside an iteration; the next record has them."""
        self._pending += rows

    def phase(self, name: str) -> Callable[[Iterate], bool]:
        """Return the observer of one phase's iterations."""
        return partial(self._observe, name)

    def _observe(self, phase: str, iterate: Iterate) -> bool:
        evaluation = iterate.evaluation
        rows = iterate.rows + self._pending
        self._pending = 0
        self.rows_read += rows
        if phase == "full":
            count = 0 if self.outcome is None else self.outcome.iterations + 1
            self.outcome = Outcome(iterate, Status.INTERRUPTED, count)
        record = IterationRecord(
            iteration=len(self.records),
            phase=phase,
            step=iterate.step,
            loss=evaluation.full_loss,
            gradient_norm=evaluation.full(float(np.linalg.norm(evaluation.gradient))),
            decrement=iterate.decrement,
            alpha=evaluation.alpha,
            step_norm=iterate.step_norm,
            radius=iterate.region.radius,
            candidates=iterate.candidates,
            rows_read=rows,
            rows_sketched=iterate.sketched,
            data_passes=self.data_passes,
            seconds=self.observers.seconds,
            target=self.target,
        )
        self.records.append(record)
        self.observers.tell(record)
        return self.stopped
