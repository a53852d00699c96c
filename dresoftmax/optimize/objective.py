"""Points → models of the objective there, by one read of its rows.

An `Objective` joins a way to read rows with the constants of the problem.  It
decides which rows enter each read's Hessian, turns the sums that come back into
`Evaluation`s, and reports what was read.  The iteration asks it for models and knows
nothing of reads; it knows nothing of iterations but their count, which seeds
the randomness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dresoftmax.model.evaluation import Evaluation, RowSums
from dresoftmax.model.units import AnyUnit
from dresoftmax.optimize.quadratic_model import QuadraticModel, Whitening
from dresoftmax.reductions.query import Query, Sketch

__all__ = ["Objective", "ReadResult", "TrialPoint"]

# Leverage scores are estimated with this many random probes.
PROBES = 8
# Sets the probes apart from the variates of rows.
STREAM = 3


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """A point to evaluate, with the predictions of log α and κ there."""

    x: np.ndarray
    log_alpha: float
    kappa: float

    @classmethod
    def at(cls, model: Evaluation) -> TrialPoint:
        """Return the point of `model`, of which log α and κ are known."""
        return cls(model.x, model.log_alpha, model.kappa)

    @classmethod
    def beyond(cls, x: np.ndarray, largest_z: float, weight: float) -> TrialPoint:
        """Return a point at which α overflowed or vanished in units of its reference.

        α lies between exp(max z) and n times that.
        """
        return cls(x, float(largest_z) + math.log(weight), 0.0)

    @classmethod
    def origin(cls, n: int, d: int, kappa: float, u: float = 1.0) -> TrialPoint:
        """Return x = 0, where f = 1/n in every row, and u = u(0) if that is positive."""
        return cls(np.zeros(d), math.log(n) + (math.log(u) if u > 0.0 else 0.0), kappa)


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What one read found: a model for each point, None where it is no trial.

    `exact` says whether all rows entered the Hessians.
    """

    models: list[Evaluation | None]
    sums: RowSums
    exact: bool


class Objective:
    """L(x) over some rows, for one target.

    Parameters
    ----------
    read : callable
        Reads the rows: a `Query` → its `RowSums`.
    target : int or ndarray of shape (K,)
        Which of the rows' targets; one for each point that is evaluated, or the same for all.
    weight : float
        The rows' total weight: n, also on a sample.
    d : int
        Columns of A.
    unit : Exponentials or Unit
    ridge : float
        λ.
    hessian : {"exact", "leverage", "uniform", "countsketch"}
    sketch_size : float
        Rows m that enter a sketched Hessian, on average.
    seed : int
    log_scale : float or None
        Without it the loss is ½‖f − b‖²; with log N it is ½‖u − αb‖², and the whole of L is
        in units of N², a number near α², to be of the order of the other.
    """

    def __init__(
        self,
        read: Callable[[Query], RowSums],
        *,
        target: int | np.ndarray = 0,
        weight: float,
        d: int,
        unit: AnyUnit,
        ridge: float,
        hessian: str,
        sketch_size: float,
        seed: int,
        log_scale: float | None = None,
    ) -> None:
        self.read = read
        self.target = target
        self.weight = weight
        self.d = d
        self.unit = unit
        self.ridge = ridge if log_scale is None else ridge * math.exp(-2.0 * log_scale)
        self.log_scale = log_scale
        self.hessian = hessian
        self.sketch_size = sketch_size
        self.seed = seed
        self.reads = 0
        self.total_leverage = float(d)

    def evaluate(
        self,
        starts: Sequence[TrialPoint],
        guide: QuadraticModel | None,
        *,
        hessian: bool = True,
        metric: bool = False,
        exact: bool = False,
    ) -> ReadResult:
        """Read all rows once and return the models at all of `starts`.

        `guide` is the last quadratic model, whose Hessian the leverage scores
        are taken in.  Without `hessian` the models have none; with `exact` all rows
        enter it, and the metric.

        Raises
        ------
        ValueError
            If A holds NaN or infinity.
        """
        query = Query(
            points=np.array([start.x for start in starts]),
            log_alpha=np.array([start.log_alpha for start in starts]),
            kappa=np.array([start.kappa for start in starts]),
            unit=self.unit,
            sketch=self._sketch(guide, exact) if hessian else Sketch("none"),
            metric=metric,
            target=self.target,
            rescaled=self.log_scale is not None,
        )
        sums = self.read(query)
        self.reads += 1
        if sums.bad is not None:
            raise ValueError(
                f"A contains NaN or infinity: the first one is in block {sums.bad[0]}, row "
                f"{sums.bad[1]} of that block; remove or replace such rows"
            )
        if 0.0 < sums.total_leverage < math.inf:
            self.total_leverage = sums.total_leverage
        with np.errstate(all="ignore"):  # an overflowing trial becomes None
            if self.log_scale is not None:
                sums = sums.in_units(query.log_alpha - self.log_scale)
            models = [
                Evaluation.from_sums(
                    sums, k, start.x, start.log_alpha, start.kappa, self.ridge, self.log_scale
                )
                for k, start in enumerate(starts)
            ]
        return ReadResult(models, sums, query.sketch.kind == "exact")

    def metric(self, evaluation: ReadResult) -> tuple[Whitening, bool]:
        """Return the metric of a read that was asked for it, and whether it is sure.

        A sketch can miss columns, or differences of columns, that few rows have:
        a rank below the number of columns is not sure then.

        Raises
        ------
        ValueError
            If squares of A are beyond what float64 holds.
        """
        sums = evaluation.sums
        squares = np.diag(sums.gram[-1])
        if not np.isfinite(squares).all():
            raise ValueError(
                f"A is too large: the squares of column {int(np.argmin(np.isfinite(squares)))} "
                "overflow; divide the column by a number, and then its entry of x by the same one"
            )
        metric = Whitening.from_gram(sums.gram[-1] / self.weight)
        return metric, evaluation.exact or metric.rank == np.count_nonzero(sums.squares)

    def _sketch(self, guide: QuadraticModel | None, exact: bool) -> Sketch:
        entropy = (self.seed, self.reads)
        kind, rate = self.hessian, self.sketch_size / self.weight
        if exact or kind == "exact":
            return Sketch("exact", entropy=entropy)
        if guide is None or kind != "leverage":
            return Sketch("uniform" if kind == "leverage" else kind, rate, entropy=entropy)
        root = guide.inverse_root()
        gaussian = np.random.default_rng([STREAM, *entropy]).standard_normal(
            (PROBES, root.shape[1])
        )
        # Half of the rows are drawn evenly: a bound on the weight of a row whose
        # leverage was estimated too low.
        return Sketch(
            kind,
            rate=0.5 * rate,
            leverage_rate=0.5 * self.sketch_size / self.total_leverage,
            probes=gaussian @ root.T / math.sqrt(PROBES),
            entropy=entropy,
        )
