"""A problem on its engine, and what is asked of it at points that are given.

`solve` looks for a point; here the points are known, and everything is wanted exactly
there: α, κ, the loss, its gradient and its Hessian.  What else is to be summed over the
rows, once α and κ are known, is a task for `Problem.engine`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.engines.base import Engine
from dresoftmax.inputs.arguments import (
    Dataset,
    check_client,
    check_dataset,
    check_engine,
    check_number,
    check_persist,
    check_unit,
)
from dresoftmax.model.evaluation import Evaluation, RowSums
from dresoftmax.model.units import AnyUnit, Unit
from dresoftmax.optimize.objective import Objective, TrialPoint
from dresoftmax.placement.open import open_engine
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query
from dresoftmax.reductions.totals import Totals, read_totals

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Problem", "open_problem"]

# Points that are read together: a Hessian of each is in memory, on every worker.
POINTS = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """The rows of a problem, its unit and its penalty.

    Attributes
    ----------
    engine : Engine
        Reads the rows.
    profile : Profile
        Totals over all rows.
    d : int
        Columns of A.
    unit : Exponentials or Unit
    ridge : float
        λ.
    data : Data
        Where the rows come from.
    target : int
        Which column of b.
    """

    engine: Engine
    profile: Totals
    d: int
    unit: AnyUnit
    ridge: float
    data: Dataset
    target: int = 0

    @property
    def n(self) -> int:
        """Rows of A."""
        return self.profile.n

    @property
    def b_norm(self) -> float:
        """‖b‖."""
        return float(self.profile.b_norm[self.target])

    def of_target(self, target: int) -> Problem:
        """Return the problem of another column of b."""
        return replace(self, target=target)

    def objective(
        self, hessian: str = "exact", sketch_size: float = 0.0, seed: int = 0
    ) -> Objective:
        """Return L over all rows, with Hessians of the kind that is asked for."""
        return Objective(
            self._read, target=self.target, weight=float(self.n), d=self.d,
            unit=self.unit, ridge=self.ridge, hessian=hessian,
            sketch_size=sketch_size, seed=seed,
        )  # fmt: skip

    def model(self, x: np.ndarray) -> Evaluation:
        """Return the objective at `x`: α, κ, gradient and Hessian, all of them exact.

        Raises
        ------
        ValueError
            If α is not positive there, or Ax overflows.
        """
        return self.models([x])[0]

    def models(
        self, points: Sequence[np.ndarray], targets: Sequence[int] | None = None
    ) -> list[Evaluation]:
        """Return `model` of each point, many of them by one read.

        `targets` has the target of each point, where they differ.
        """
        return list(map(_inside, self.trials(points, targets)))

    def trials(
        self, points: Sequence[np.ndarray], targets: Sequence[int] | None = None
    ) -> list[Evaluation | None]:
        """Return `model` of each point, or None where it is outside the domain."""
        each = [self.target] * len(points) if targets is None else targets
        models = []
        for first in range(0, len(points), POINTS):
            part = slice(first, first + POINTS)
            models += self._trials(points[part], np.array(each[part]))
        return models

    def _trials(self, points: Sequence[np.ndarray], targets: np.ndarray) -> list[Evaluation | None]:
        objective = self.objective()
        objective.target = targets
        # α is not known; it is found without a Hessian first, since that is exact only with it.
        starts = [TrialPoint(x, math.log(self.n), 0.0) for x in points]
        evaluation = objective.evaluate(starts, None, hessian=False)
        if any(model is None for model in evaluation.models):
            starts = [
                TrialPoint.beyond(x, z, self.n)
                for x, z in zip(points, evaluation.sums.largest, strict=True)
            ]
            evaluation = objective.evaluate(starts, None, hessian=False)
        objective.target = targets[[model is not None for model in evaluation.models]]
        known = [TrialPoint.at(model) for model in evaluation.models if model is not None]
        exact = iter(objective.evaluate(known, None).models if known else ())
        return [None if model is None else next(exact) for model in evaluation.models]

    def _read(self, query: Query) -> RowSums:
        return self.engine.reduce(partial(evaluate_blocks, [query])).each[0]


def _inside(model: Evaluation | None) -> Evaluation:
    if model is None:
        raise ValueError(
            "x is outside the domain: alpha, the sum of u(A @ x), has to be positive and finite"
        )
    return model


@contextmanager
def open_problem(
    A: Any,
    b: Any,
    *,
    w: Any = None,
    ridge: float = 0.0,
    unit: str | Unit = "exp+linear",
    client: Client | None = None,
    engine: str = "auto",
    persist: bool | None = None,
    check: Callable[[Dataset], object] | None = None,
) -> Iterator[Problem]:
    """Check the arguments, which are those of `dresoftmax.solve`, and hold the rows.

    `check` sees the data before they are held, to compare more arguments with them.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, or a file cannot be read.
    """
    check_client(client)
    on_ray = check_engine(engine, client, A=A, b=b, w=w)
    data = check_dataset(A, b, w, client, on_ray=on_ray)
    check_persist(persist)
    chosen = check_unit(unit)
    ridge = check_number("ridge", ridge)
    if check is not None:
        check(data)
    with open_engine(data, client, persist, on_ray=on_ray) as rows:
        yield Problem(rows, rows.reduce(read_totals), data.d, chosen, ridge, data)
