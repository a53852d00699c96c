"""Points → the objective there, by one read of its rows.

An `Objective` joins a way to read rows with the constants of the problem.  It
decides which rows enter each read's Hessian, and has the loss make `Evaluation`s of the
sums that come back.  The iteration asks it for them and knows nothing of reads; it
knows nothing of iterations.  Random draws of a read follow from the seed and a
number that the caller passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dresoftmax.model.evaluation import Evaluation, TrialPoint
from dresoftmax.model.loss import Loss, TargetTotals
from dresoftmax.model.row_sums import RowSums
from dresoftmax.model.units import AnyUnit
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.whitening import Whitening
from dresoftmax.reductions.query import Query, Sketch

__all__ = ["Draw", "Objective", "ReadResult", "Reader"]

# Leverage scores are estimated with this many random probes.
PROBES = 8
# Sets the probes apart from the variates of rows.
STREAM = 3


@dataclass(frozen=True, slots=True)
class Draw:
    """How a read draws the rows of a sketch.

    Attributes
    ----------
    number : int
        With the seed it decides the variates.
    total_leverage : float or None
        Στ, as the last read found it; None stands for d.
    """

    number: int = 0
    total_leverage: float | None = None

    def after(self, sums: RowSums) -> Draw:
        """Return that of the next read."""
        found = sums.total_leverage
        return Draw(self.number + 1, found if 0.0 < found < math.inf else self.total_leverage)


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What one read found.

    Attributes
    ----------
    evaluations : list of Evaluation or None
        One for each point, None if it is outside the domain.
    sums : RowSums
    exact : bool
        Whether all rows entered the Hessians.
    draw : Draw
        For the next read.
    """

    evaluations: list[Evaluation | None]
    sums: RowSums
    exact: bool
    draw: Draw


class Reader(Protocol):
    """An objective that can be evaluated at points, by one read of its rows."""

    def evaluate(
        self,
        points: Sequence[TrialPoint],
        *,
        draw: Draw,
        metric: QuadraticModel | None = None,
        hessian: bool = True,
    ) -> ReadResult:
        """Return what is found at all of `points`, with or without Hessians."""

    def quadratic(self, evaluation: Evaluation, whitening: Whitening) -> QuadraticModel:
        """Return the quadratic model at a point."""

    def noise(self, evaluation: Evaluation, whitening: Whitening) -> float:
        """Return the size of rounding errors in the loss at a point."""


@dataclass(frozen=True)
class Objective:
    """L(x) over some rows, for one target.

    Attributes
    ----------
    read : callable
        Reads the rows: a `Query` → its `RowSums`.
    totals : TargetTotals
        Of all rows, also if `read` reads a sample.
    d : int
        Columns of A.
    unit : Exponentials or Unit
    loss : Loss
    ridge : float
        λ.
    target : int or ndarray of shape (K,)
        Which of the rows' targets; one for each point that is evaluated, or the same for all.
    hessian : {"exact", "leverage", "uniform", "countsketch"}
    sketch_size : float
        Rows m that enter a sketched Hessian, on average.
    seed : int
    """

    read: Callable[[Query], RowSums]
    totals: TargetTotals
    d: int
    unit: AnyUnit
    loss: Loss
    ridge: float = 0.0
    target: int | np.ndarray = 0
    hessian: str = "exact"
    sketch_size: float = 0.0
    seed: int = 0

    @property
    def scale(self) -> float:
        """What the tolerance and rounding errors of the decrement are relative to."""
        return self.loss.scale(self.totals)

    @property
    def unit_ridge(self) -> float:
        """λ in units of the objective."""
        return self.ridge * math.exp(-2.0 * self.loss.log_unit)

    def evaluate(
        self,
        points: Sequence[TrialPoint],
        *,
        draw: Draw = Draw(),
        metric: QuadraticModel | None = None,
        hessian: bool = True,
        column_gram: bool = False,
        exact: bool = False,
    ) -> ReadResult:
        """Read all rows once and return what is found at all of `points`.

        Parameters
        ----------
        points : sequence of TrialPoint
        draw : Draw
            How a sketch is drawn.
        metric : QuadraticModel, optional
            In whose Hessian the leverage scores are taken; without it rows are drawn evenly.
        hessian : bool
            Whether Hessians are wanted.
        column_gram : bool
            Whether AᵀA is wanted, too.
        exact : bool
            Whether all rows enter them in any case.

        Raises
        ------
        ValueError
            If A holds NaN or infinity.
        """
        query = Query(
            points=np.array([point.x for point in points]),
            log_alpha=np.array([point.log_alpha for point in points]),
            kappa=np.array([point.kappa for point in points]),
            unit=self.unit,
            sketch=self._sketch(draw, metric, exact) if hessian else Sketch("none"),
            column_gram=column_gram,
            target=self.target,
            loss=self.loss,
        )
        sums = self.read(query)
        if sums.bad is not None:
            raise ValueError(
                f"A contains NaN or infinity: the first one is in block {sums.bad[0]}, row "
                f"{sums.bad[1]} of that block; remove or replace such rows"
            )
        with np.errstate(all="ignore"):  # an overflowing trial becomes None
            found = [
                self.loss.evaluate(sums, k, point, self.unit_ridge)
                for k, point in enumerate(points)
            ]
        return ReadResult(found, sums, query.sketch.kind == "exact", draw.after(sums))

    def quadratic(self, evaluation: Evaluation, whitening: Whitening) -> QuadraticModel:
        """Return the quadratic model at a point."""
        return QuadraticModel(
            evaluation.gradient,
            evaluation.hessian,
            whitening,
            noise=self.loss.gradient_noise(self.scale),
        )

    def noise(self, evaluation: Evaluation, whitening: Whitening) -> float:
        """Return the size of rounding errors in the loss at a point."""
        z_norm = whitening.row_norm * float(np.linalg.norm(evaluation.x))
        return self.loss.noise(evaluation.loss, z_norm, self.scale)

    def whitening(self, found: ReadResult) -> tuple[Whitening, bool]:
        """Return the whitening of a read that was asked for AᵀA, and whether it is sure.

        A sketch can miss columns, or differences of columns, that few rows have:
        a rank below the number of columns is not sure then.

        Raises
        ------
        ValueError
            If squares of A are beyond what float64 holds.
        """
        gram = found.sums.gram[-1]
        finite = np.isfinite(np.diag(gram))
        if not finite.all():
            raise ValueError(
                f"A is too large: the squares of column {int(np.argmin(finite))} "
                "overflow; divide the column by a number, and then its entry of x by the same one"
            )
        whitening = Whitening.from_gram(gram / self.totals.n)
        sure = found.exact or whitening.rank == np.count_nonzero(found.sums.squares)
        return whitening, bool(sure)

    def _sketch(self, draw: Draw, metric: QuadraticModel | None, exact: bool) -> Sketch:
        entropy = (self.seed, draw.number)
        kind, rate = self.hessian, self.sketch_size / self.totals.n
        if exact or kind == "exact":
            return Sketch("exact", entropy=entropy)
        if metric is None or kind != "leverage":
            return Sketch("uniform" if kind == "leverage" else kind, rate, entropy=entropy)
        root = metric.inverse_root()
        gaussian = np.random.default_rng([STREAM, *entropy]).standard_normal(
            (PROBES, root.shape[1])
        )
        # Half of the rows are drawn evenly: a bound on the weight of a row whose
        # leverage was estimated too low.
        return Sketch(
            kind,
            rate=0.5 * rate,
            leverage_rate=0.5 * self.sketch_size / (draw.total_leverage or self.d),
            probes=gaussian @ root.T / math.sqrt(PROBES),
            entropy=entropy,
        )
