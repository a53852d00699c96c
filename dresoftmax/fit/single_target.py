"""The fit of one target: solve its sample, then all rows, guided by the sample.

What all targets have in common is a `FitSettings`; what differs are the target's number, its
start, and whom its reads are asked of.  Nothing is known of other targets here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.engines.threads import cores
from dresoftmax.model.evaluation import RowSums
from dresoftmax.model.units import AnyUnit
from dresoftmax.optimize.hessian_reuse import HessianReuse
from dresoftmax.optimize.history import FitHistory
from dresoftmax.optimize.initialization import solve_sample
from dresoftmax.optimize.newton import Fallback, minimise
from dresoftmax.optimize.objective import Objective, TrialPoint
from dresoftmax.optimize.proposals import QuadraticProposer, StepProposer
from dresoftmax.optimize.surrogate import SurrogateProposer
from dresoftmax.optimize.termination import Termination
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query
from dresoftmax.reductions.row_sample import RowSample
from dresoftmax.reductions.totals import Totals

__all__ = ["FitSettings", "fit"]

# First trust radius, as RMS change of z: exp(z) changes by a factor of e.
RADIUS = 1.0
# By which law the decrement falls, as far as it can be foreseen.
FORESIGHT = {"exact": "quadratic", "carried": "linear", "sketched": "none"}


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What the fits of all targets have in common.

    Attributes
    ----------
    profile : Profile
        Totals over all rows.
    d : int
        Columns of A.
    unit : Exponentials or Unit
    rescaled : bool
        Whether the loss is ½‖u − αb‖², not ½‖f − b‖².
    ridge, tol : float
        λ, and the tolerance relative to ‖b‖.
    max_iter, seed : int
    hessian : {"exact", "leverage", "uniform", "countsketch"}
        Which rows enter a Hessian where one is read.
    sketch_size : float
        Rows that enter a sketched one.
    use : {"exact", "carried", "sketched"}
        What is made of the Hessians of all rows, see `carrying.HessianReuse`.
    sample : Sample or None
        Rows that the driver holds.
    sizes : (float, float)
        Rows of it to solve first, and all of a target's.
    """

    profile: Totals
    d: int
    unit: AnyUnit
    rescaled: bool
    ridge: float
    tol: float
    max_iter: int
    seed: int
    hessian: str
    sketch_size: float
    use: str
    sample: RowSample | None
    sizes: tuple[float, float]


def fit(
    setting: FitSettings,
    target: int,
    x0: np.ndarray | None,
    journal: FitHistory,
    read: Callable[[Query], RowSums],
) -> None:
    """Fit one target, from `x0` or from the solution of its sample; tell it to `journal`.

    Raises
    ------
    ValueError
        If α ≤ 0 at `x0`, or A holds NaN or infinity.
    """
    profile, sketched = setting.profile, setting.use == "sketched"
    n, b_norm, b_sum = profile.n, float(profile.b_norm[target]), float(profile.b_sum[target])
    kappa = b_sum / n - b_norm**2 if setting.rescaled else (1.0 - b_sum) / n
    at_zero = setting.unit.at_zero
    origin = TrialPoint.origin(n, setting.d, kappa, at_zero)
    scale = origin.log_alpha if setting.rescaled else None

    def objective(read: Callable[[Query], RowSums], **options: Any) -> Objective:
        return Objective(
            read, weight=float(n), d=setting.d, unit=setting.unit, ridge=setting.ridge,
            seed=setting.seed, log_scale=scale, **options,
        )  # fmt: skip

    first = origin if x0 is None else TrialPoint(x0, origin.log_alpha, 0.0)
    radius, metric, foresight = RADIUS, None, "none"
    guide: StepProposer = QuadraticProposer(sketched=sketched)
    if setting.sample is not None:
        journal.count(setting.sample.read)
        # Several targets use the cores side by side.
        threads = cores() if profile.targets == 1 else 1
        blocks = [setting.sample.cut(size, target) for size in setting.sizes]
        part, whole = (
            partial(objective, partial(_read, block, threads), hessian="exact", sketch_size=0.0)
            for block in blocks
        )
        if x0 is None:
            journal.log_scale = scale
            first, radius, metric = solve_sample(part(), whole(), origin, RADIUS, b_norm, journal)
            scale = first.log_alpha if setting.rescaled else None
        if not journal.stopped:
            foresight = FORESIGHT[setting.use]
            guide = SurrogateProposer(
                whole(), blocks[1].rows, first, b_norm, HessianReuse(setting.use),
                journal.phase("sample"),
            )  # fmt: skip
    journal.log_scale = scale
    loss = float(profile.origin_loss[target])
    if scale is not None:
        loss *= math.exp(2.0 * (origin.log_alpha - scale))
    fallback = Fallback(origin, loss) if at_zero > 0.0 else Fallback.opposite(first)
    journal.outcome = minimise(
        objective(
            read,
            target=target,
            hessian=setting.hessian,
            sketch_size=setting.sketch_size,
        ),
        first,
        guide=guide,
        fallback=fallback,
        strict=x0 is not None,
        watch=Termination(
            target=setting.tol * b_norm,
            b_norm=b_norm,
            max_iter=setting.max_iter,
            sketched=sketched,
            foresight=foresight,
        ),
        radius=radius,
        metric=metric,
        observe=journal.phase("full"),
    )


def _read(block: Block, threads: int, query: Query) -> RowSums:
    return evaluate_blocks([query], [block], threads).each[0]
