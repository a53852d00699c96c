"""A problem: rows on an engine, a unit, a loss and its penalty.

`solve`, `covariance`, `theory` and `verify` all open one.  `solve` looks for a point; the
others know the point, and ask for exact values there: α, κ, the loss, its gradient and its
Hessian.  Other sums over the rows are tasks for `Problem.engine`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from dresoftmax.engines.base import Engine
from dresoftmax.inputs.arguments import (
    check_client,
    check_engine,
    check_number,
    check_persist,
    check_unit,
)
from dresoftmax.inputs.dataset import Dataset, check_dataset
from dresoftmax.model.evaluation import Evaluation, TrialPoint
from dresoftmax.model.loss import Loss, TargetTotals
from dresoftmax.model.losses import SquaredLoss
from dresoftmax.model.row_sums import RowSums
from dresoftmax.model.units import AnyUnit, Unit
from dresoftmax.optimize.objective import Objective
from dresoftmax.placement.open import open_engine
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query
from dresoftmax.reductions.totals import Totals, read_totals

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Problem", "ProblemOptions", "open_problem"]

# Points that are read together: a Hessian of each is in memory, on every worker.
POINTS = 8


class ProblemOptions(TypedDict, total=False):
    """The options of `dresoftmax.solve` that say what is asked of A and b, and where they lie."""

    ridge: float
    unit: str | Unit
    client: Client | None
    engine: str
    persist: bool | None


@dataclass(frozen=True, slots=True)
class Problem:
    """The rows of a problem, its unit, its loss and its penalty.

    Attributes
    ----------
    data : Dataset
        Where the rows come from.
    engine : Engine
        Reads the rows.
    totals : Totals
        Over all rows.
    unit : Exponentials or Unit
    loss : Loss
    ridge : float
        λ.
    target : int
        Which column of b.
    """

    data: Dataset
    engine: Engine
    totals: Totals
    unit: AnyUnit
    loss: Loss
    ridge: float
    target: int = 0

    @property
    def n(self) -> int:
        """Rows of A."""
        return self.totals.n

    @property
    def d(self) -> int:
        """Columns of A."""
        return self.data.d

    @property
    def target_totals(self) -> TargetTotals:
        """What is known of the target."""
        return self.totals.of_target(self.target)

    @property
    def origin(self) -> TrialPoint:
        """The point x = 0, at which f = 1/n in every row; u(0) is used if it is positive."""
        u = self.unit.at_zero
        log_alpha = math.log(self.n) + (math.log(u) if u > 0.0 else 0.0)
        return TrialPoint(np.zeros(self.d), log_alpha, self.loss.at_origin(self.target_totals)[1])

    def of_target(self, target: int) -> Problem:
        """Return the problem of another column of b."""
        return replace(self, target=target)

    def objective(
        self, hessian: str = "exact", sketch_size: float = 0.0, seed: int = 0
    ) -> Objective:
        """Return L over all rows, with Hessians of the kind that is asked for."""
        return Objective(
            self._read, self.target_totals, self.d, self.unit, self.loss, self.ridge,
            target=self.target, hessian=hessian, sketch_size=sketch_size, seed=seed,
        )  # fmt: skip

    def evaluate(self, x: np.ndarray) -> Evaluation:
        """Return the objective at `x`: α, κ, gradient and Hessian, all of them exact.

        Raises
        ------
        ValueError
            If α is not positive there, or Ax overflows.
        """
        return self.evaluate_all([x])[0]

    def evaluate_all(
        self, points: Sequence[np.ndarray], targets: Sequence[int] | None = None
    ) -> list[Evaluation]:
        """Return `evaluate` of each point, many of them by one read.

        `targets` has the target of each point, if they differ.
        """
        return list(map(_inside, self.trials(points, targets)))

    def trials(
        self, points: Sequence[np.ndarray], targets: Sequence[int] | None = None
    ) -> list[Evaluation | None]:
        """Return `evaluate` of each point, or None if it is outside the domain."""
        each = [self.target] * len(points) if targets is None else targets
        found = []
        for first in range(0, len(points), POINTS):
            part = slice(first, first + POINTS)
            found += self._trials(points[part], np.array(each[part]))
        return found

    def _trials(self, points: Sequence[np.ndarray], targets: np.ndarray) -> list[Evaluation | None]:
        objective = replace(self.objective(), target=targets)
        # α is not known; it is found without a Hessian first, since that is exact only with it.
        asked = [TrialPoint(x, math.log(self.n), 0.0) for x in points]
        found = objective.evaluate(asked, hessian=False)
        if any(each is None for each in found.evaluations):
            asked = [
                TrialPoint.beyond(x, z, self.n)
                for x, z in zip(points, found.sums.largest_z, strict=True)
            ]
            found = objective.evaluate(asked, hessian=False)
        inside = [each is not None for each in found.evaluations]
        known = [each.point for each in found.evaluations if each is not None]
        again = replace(objective, target=targets[inside])
        exact = iter(again.evaluate(known).evaluations if known else ())
        return [next(exact) if within else None for within in inside]

    def _read(self, query: Query) -> RowSums:
        return self.engine.reduce(partial(evaluate_blocks, [query])).each[0]


def _inside(evaluation: Evaluation | None) -> Evaluation:
    if evaluation is None:
        raise ValueError(
            "x is outside the domain: alpha, the sum of u(A @ x), has to be positive and finite"
        )
    return evaluation


@contextmanager
def open_problem(
    A: Any,
    b: Any,
    *,
    w: Any = None,
    ridge: float = 0.0,
    unit: str | Unit = "exp+linear",
    loss: Loss | None = None,
    client: Client | None = None,
    engine: str = "auto",
    persist: bool | None = None,
    check: Callable[[Dataset], object] | None = None,
) -> Iterator[Problem]:
    """Check the arguments, which are those of `dresoftmax.solve`, and hold the rows.

    `loss` is the squared one by default.  `check` sees the data before they are held, to
    compare more arguments with them.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, or a file cannot be read.
    """
    check_client(client)
    on_ray = check_engine(engine, client, A=A, b=b, w=w)
    check_persist(persist)
    chosen, ridge = check_unit(unit), check_number("ridge", ridge)
    data = check_dataset(A, b, w, client, on_ray=on_ray)
    if check is not None:
        check(data)
    with open_engine(data, client, persist, on_ray=on_ray) as held:
        yield Problem(data, held, held.reduce(read_totals), chosen, loss or SquaredLoss(), ridge)
