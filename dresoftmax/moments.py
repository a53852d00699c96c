"""One read for covariances: squares and products of the rows of the Jacobian of f.

With t = u'(Ax)/α and f = u(Ax)/α, row i of the Jacobian is

    Jᵢ = tᵢaᵢ − fᵢp,     p = Aᵀt,

and whatever is taken off all rows, that is linear in (tᵢaᵢ, fᵢ, 1).  So one matrix
with d + 2 columns is enough, and nothing has to be known of p and h in the read:

    M = Σᵢ ωᵢ² (tᵢaᵢ, fᵢ, 1)ᵀ(tᵢaᵢ, fᵢ, 1)
    Σᵢ ωᵢ² (Jᵢ − h)(Jᵢ − h)ᵀ = T M Tᵀ     with T = [I, −p, −h]

The read is plain NumPy and SciPy, by panels of rows that stay in cache, and a pure
function of its arguments.  What the sums are for is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from dresoftmax.blas import one_blas_thread
from dresoftmax.blocks import Block
from dresoftmax.deferred import Deferred
from dresoftmax.loading import map_loaded, split
from dresoftmax.units import Exponentials

__all__ = ["Moments", "Points", "read_moments"]

# A panel of rows has so many numbers, and its square at least as many rows as columns.
PANEL_NUMBERS, LEAST_PANEL_ROWS = 1 << 16, 512

Panel = tuple[Block, slice]


@dataclass(frozen=True, slots=True)
class Points:
    """Where moments are wanted, and of what.

    Attributes
    ----------
    x : ndarray of shape (K, d)
    log_alpha : ndarray of shape (K,)
        log α at each point.
    targets : ndarray of shape (K,)
        The target that each is compared with.
    unit : Exponentials
    robust : bool
        Whether ωᵢ is the row's residual cᵢ, else one.
    """

    x: np.ndarray
    log_alpha: np.ndarray
    targets: np.ndarray
    unit: Exponentials
    robust: bool


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over rows; those over several parts of the rows add up.

    Attributes
    ----------
    products : ndarray of shape (K, d + 2, d + 2)
        M at each point.
    scalars : ndarray of shape (K, 2)
        ‖c‖² and ‖f‖².
    slope : ndarray of shape (K, d)
        q = Aᵀ(t∘f).
    penalty : ndarray of shape (d, d)
        AᵀW²A; zero where `robust` moments were wanted.
    """

    products: np.ndarray
    scalars: np.ndarray
    slope: np.ndarray
    penalty: np.ndarray

    @classmethod
    def zeros(cls, K: int, d: int) -> Moments:
        """Return the sums over no rows."""
        return cls(
            np.zeros((K, d + 2, d + 2)), np.zeros((K, 2)), np.zeros((K, d)), np.zeros((d, d))
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.products + other.products,
            self.scalars + other.scalars,
            self.slope + other.slope,
            self.penalty + other.penalty,
        )


def read_moments(points: Points, blocks: Sequence[Block | Deferred], threads: int) -> Moments:
    """Return the moments over all rows of `blocks`."""
    held, deferred = split(blocks)
    K, d = points.x.shape
    panels = [panel for block in held for panel in _panels(block, d)]
    count = min(threads, len(panels))
    shares = [
        panels[len(panels) * i // count : len(panels) * (i + 1) // count] for i in range(count)
    ]
    add = partial(_sum, points)
    total = Moments.zeros(K, d)
    if shares:
        with one_blas_thread, ThreadPoolExecutor(count) as pool:
            total = sum(pool.map(add, shares), start=total)
    loaded = map_loaded(lambda block: add(list(_panels(block, d))), deferred, threads)
    return sum(loaded, start=total)


def _panels(block: Block, d: int) -> list[Panel]:
    rows = max(LEAST_PANEL_ROWS, PANEL_NUMBERS // d)
    return [(block, slice(start, start + rows)) for start in range(0, block.rows, rows)]


def _sum(points: Points, panels: Sequence[Panel]) -> Moments:
    K, d = points.x.shape
    total = Moments.zeros(K, d)
    for block, rows in panels:
        A = block.A[rows]
        z = A @ points.x.T
        for k in range(K):
            f, t, _ = points.unit.scaled(z[:, k], points.log_alpha[k])
            c = f - block.b[points.targets[k], rows]
            omega = c if points.robust else np.ones_like(c)
            left, right = _scaled(A, omega * t), omega[:, None] * np.column_stack([f, np.ones_like(f)])
            side = left.T @ right
            M = total.products[k]
            M[:d, :d] += _square(left)
            M[:d, d:] += side
            M[d:, :d] += side.T
            M[d:, d:] += right.T @ right
            total.scalars[k] += c @ c, f @ f
            total.slope[k] += A.T @ (t * f)
        if not points.robust and block.w2.any():
            w = np.sqrt(np.broadcast_to(block.w2, block.rows)[rows])
            total.penalty[:] += _square(_scaled(A, w))
    return total


def _scaled(A: Any, factors: np.ndarray) -> Any:
    """Return diag(factors)A in float64, sparse where A is."""
    return sp.diags_array(factors) @ A if sp.issparse(A) else factors[:, None] * A


def _square(rows: Any) -> np.ndarray:
    product = rows.T @ rows
    return product.toarray() if sp.issparse(product) else product
