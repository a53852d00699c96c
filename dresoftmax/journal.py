"""The record of a solve: what each iteration found and cost, and who is told.

A `Journal` is the one place where rows read are counted into data passes.  It
only looks on: whatever it is told, the iteration goes on as it would have,
unless a callback asks for the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from dresoftmax.guides import Iterate
from dresoftmax.result import IterationRecord

__all__ = ["Journal", "Observer"]

Observer = Callable[[IterationRecord], bool | None]


class Journal:
    """Collects the records of one solve.

    Parameters
    ----------
    n : int
        Rows of A.
    observers : sequence of callable
        Each sees every record; one that returns True ends the solve.
    """

    def __init__(self, n: int, observers: Sequence[Observer]) -> None:
        self.n = n
        self.observers = observers
        self.records: list[IterationRecord] = []
        self.rows_read = 0
        self.stopped = False
        self._pending = 0
        self._began = time.perf_counter()

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
        model = iterate.model
        rows = iterate.rows + self._pending
        self._pending = 0
        self.rows_read += rows
        record = IterationRecord(
            iteration=len(self.records),
            phase=phase,
            step=iterate.step,
            loss=model.loss,
            gradient_norm=float(np.linalg.norm(model.gradient)),
            decrement=iterate.decrement,
            alpha=model.alpha,
            step_norm=iterate.step_norm,
            radius=iterate.radius,
            candidates=iterate.candidates,
            rows_read=rows,
            rows_sketched=iterate.sketched,
            data_passes=self.data_passes,
            seconds=time.perf_counter() - self._began,
        )
        self.records.append(record)
        # Every observer sees the record, also where one of them asks for the end.
        answers = [observer(record) for observer in self.observers]
        self.stopped = self.stopped or any(answers)
        return self.stopped
