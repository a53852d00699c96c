"""What a read is asked, and what it answers: queries, and how several become one.

A `Query` holds everything that is wanted of the rows while they are in cache: the points,
the targets that they are compared with, and which rows enter the Hessian.  Iterations
over several targets ask at the same time.  Their queries are joined if they want the same of
each row; one query with the points of all costs a row little more than one of them.

Requests and answers only: nothing is read here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from dresoftmax.model.loss import Loss
from dresoftmax.model.losses import SquaredLoss
from dresoftmax.model.row_sums import RowSums
from dresoftmax.model.units import AnyUnit

__all__ = ["Answers", "Query", "Sketch", "join"]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Which rows enter the Hessian, and with what weight.

    Attributes
    ----------
    kind : {"none", "exact", "leverage", "uniform", "countsketch"}
    rate, leverage_rate : float
        Row i enters with probability min(1, rate + leverage_rate·τᵢ); "countsketch"
        has so many buckets per row as `rate` says.
    probes : ndarray of shape (s, d)
        (R·G)ᵀ/√s for Gaussian G, where R Rᵀ ≈ H⁻¹: ‖probes @ a‖² estimates the
        leverage ‖aᵀR‖².
    entropy : tuple of int
        (seed, number of the read); with the block's index it seeds the variates.
    """

    kind: str = "none"
    rate: float = 1.0
    leverage_rate: float = 0.0
    probes: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    entropy: tuple[int, ...] = (0,)

    @property
    def draws(self) -> bool:
        """Whether chance decides which rows enter."""
        return self.kind not in ("none", "exact")


@dataclass(frozen=True, slots=True)
class Query:
    """What one read is to evaluate.

    Attributes
    ----------
    points : ndarray of shape (K, d)
        The points x; everything is evaluated at all of them.
    log_alpha, kappa : ndarray of shape (K,)
        References log α₀ and κ₀ of each point.
    unit : Exponentials or Unit
    sketch : Sketch
        Which rows enter the Hessian.
    column_gram : bool
        Whether AᵀA is wanted, too, from the same rows.
    target : int or ndarray of shape (K,)
        The target that each point is compared with.
    loss : Loss
        Whose terms of a row are wanted.
    """

    points: np.ndarray
    log_alpha: np.ndarray
    kappa: np.ndarray
    unit: AnyUnit
    sketch: Sketch
    column_gram: bool = False
    target: int | np.ndarray = 0
    loss: Loss = field(default_factory=SquaredLoss)

    @property
    def targets(self) -> np.ndarray:
        """`target`, one for each point."""
        return np.broadcast_to(np.int64(self.target), len(self.points)).copy()


@dataclass(frozen=True, slots=True)
class Answers:
    """The sums for each query of a read; those over several parts of the rows add up."""

    each: list[RowSums]

    def __add__(self, other: Answers) -> Answers:
        return Answers([one + more for one, more in zip(self.each, other.each, strict=True)])


def join(queries: Sequence[Query]) -> list[tuple[Query, list[tuple[int, slice]]]]:
    """Join queries that want the same of each row.

    Each query to read comes with the places of its members: their position in `queries`, and
    their slice of its points.  A query with a random sketch is not joined.
    """
    if len(queries) == 1:
        return [(queries[0], [(0, slice(0, len(queries[0].points)))])]
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, query in enumerate(queries):
        alone = i if query.sketch.draws else None
        kind = (query.unit, query.loss.name, query.sketch.kind, query.column_gram, alone)
        alike[kind].append(i)
    joined = []
    for members in alike.values():
        parts = [queries[i] for i in members]
        ends = list(accumulate((len(part.points) for part in parts), initial=0))
        whole = replace(
            parts[0],
            points=np.concatenate([part.points for part in parts]),
            log_alpha=np.concatenate([part.log_alpha for part in parts]),
            kappa=np.concatenate([part.kappa for part in parts]),
            target=np.concatenate([part.targets for part in parts]),
        )
        joined.append((whole, list(zip(members, map(slice, ends, ends[1:]), strict=True))))
    return joined
