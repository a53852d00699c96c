"""The sample of rows that the driver solves first.

Row i is drawn with probability πᵢ = min(1, m·ρᵢ) and counts with weight 1/πᵢ; the rates ρᵢ
are those of the loss.  The variates are a function of (seed, block), so that the sample
does not depend on which worker draws it, and samples of different sizes are nested: a row enters
every sample with uᵢ < min(1, m·ρᵢ), so that the smaller ones can be cut out of the largest.
Several targets have each its own ρ and the same variates: one draw brings the rows of all.

Rows only: nothing of the objective comes in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.blocks.make import concatenate
from dresoftmax.blocks.prefetch import map_loaded, split
from dresoftmax.model.loss import Loss

__all__ = ["RowSample", "SamplePlan", "draw_sample"]

# Sets the variates of the sample apart from those of reads.
STREAM = 1
# Rows whose rates are computed at a time, so that they stay in cache.
ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """How a sample is drawn: expected size m for a target, and what the rates ρ depend on."""

    size: float
    loss: Loss
    n: int
    b_norm1: np.ndarray
    b_norm: np.ndarray
    seed: int

    def rates(self, b: np.ndarray) -> np.ndarray:
        """Return ρ of rows with the targets `b`, a line for each target."""
        return self.loss.sampling_rates(b, self.n, self.b_norm1, self.b_norm)


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
    held, lazy = split(blocks)
    drawn = [_draw(plan, block, threads) for block in held]
    read = sum(block.rows for block, _, _ in drawn) + sum(block.rows for block in lazy)
    drawn += map_loaded(partial(_draw, plan), lazy, threads)
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
    variates = uniforms(key, 0, block.rows)

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
