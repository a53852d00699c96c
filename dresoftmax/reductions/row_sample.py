"""The sample of rows that the driver solves first.

Row i is drawn with probability πᵢ = min(1, m·ρᵢ), where

    ρᵢ = ⅓(1/n + |bᵢ|/‖b‖₁ + bᵢ²/‖b‖²),

and counts with weight 1/πᵢ: a third of the sample is spread evenly, and the rest
follows the target, since near the solution uᵢ is αbᵢ, and a row matters to
α = Σu by its b, to ‖f − b‖² by the square of it.  The variates are a
function of (seed, block), so that the sample does not depend on who draws it,
and samples of different sizes are nested: a row enters every sample with
uᵢ < min(1, m·ρᵢ), so that the smaller ones can be cut out of the largest.  Several
targets have each its own ρ and the same variates: one draw brings the rows of all.

Rows only: nothing of the objective comes in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from dresoftmax.blocks.base import Block, concatenate
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.blocks.prefetch import map_loaded, split

__all__ = ["RowSample", "SamplePlan", "draw_sample"]

# Sets the variates of the sample apart from those of reads.
STREAM = 1
# Rows whose rates are computed at a time, so that they stay in cache.
ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """How a sample is drawn: expected size m for a target, and the constants of each ρ."""

    size: float
    n: int
    b_norm1: np.ndarray
    b_norm: np.ndarray
    seed: int

    def rates(self, b: np.ndarray) -> np.ndarray:
        """Return ρ of rows with the targets `b`, a line for each target."""
        even = 1.0 / self.n
        with np.errstate(invalid="ignore"):  # a target of zeros has no shares
            by_share = np.abs(b) / self.b_norm1[:, None] + np.square(b / self.b_norm[:, None])
        return np.where(self.b_norm[:, None] > 0.0, (even + by_share) / 3.0, even)


@dataclass(frozen=True, slots=True)
class RowSample:
    """Rows drawn from some blocks, each with its variate u and its rate ρ for each target.

    `read` counts the rows that had to be read for it: of a block that is loaded, all.
    """

    blocks: list[Block]
    variates: list[np.ndarray]
    rates: list[np.ndarray]
    read: int

    def __add__(self, other: RowSample) -> RowSample:
        return RowSample(
            self.blocks + other.blocks,
            self.variates + other.variates,
            self.rates + other.rates,
            self.read + other.read,
        )

    @property
    def rows(self) -> int:
        """Rows in the sample."""
        return sum(block.rows for block in self.blocks)

    def cut(self, size: float, target: int = 0) -> Block:
        """Return a target's sample of expected size `size`, at most that drawn."""
        parts = []
        for block, variate, rates in zip(self.blocks, self.variates, self.rates, strict=True):
            pi = np.minimum(1.0, size * rates[target])
            inside = np.flatnonzero(variate < pi)
            parts.append(block.of_target(target).take(inside, 1.0 / pi[inside]))
        return concatenate(parts)


def draw_sample(plan: SamplePlan, blocks: Sequence[Block | LazyBlock], threads: int) -> RowSample:
    """Return the rows of `blocks` that `plan` draws."""
    held, deferred = split(blocks)
    drawn = [_draw(plan, block, threads) for block in held]
    read = sum(block.rows for block, _, _ in drawn) + sum(block.rows for block in deferred)
    drawn += map_loaded(partial(_draw, plan), deferred, threads)
    return RowSample(
        [rows for rows, _, _ in drawn],
        [variates for _, variates, _ in drawn],
        [rates for _, _, rates in drawn],
        read,
    )


def _draw(plan: SamplePlan, block: Block, threads: int = 1) -> tuple[Block, np.ndarray, np.ndarray]:
    from dresoftmax.kernels.row_sampling import uniforms

    entropy = [STREAM, block.index, plan.seed]
    key = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    variates = uniforms(key, block.rows)

    def drawn(start: int) -> np.ndarray:
        part = slice(start, start + ROWS)
        rates = plan.rates(block.b[:, part])
        return start + np.flatnonzero((variates[part] < plan.size * rates).any(axis=0))

    starts = range(0, block.rows, ROWS)
    if threads > 1 and len(starts) > 1:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(drawn, starts))
    else:
        parts = list(map(drawn, starts))
    inside = np.concatenate([np.empty(0, np.intp), *parts])
    rows = block.take(inside, np.ones(1))
    return rows, variates[inside], plan.rates(rows.b)
