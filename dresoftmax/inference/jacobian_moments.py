"""One read for covariances: second moments of the rows of the Jacobian of f.

With t = u'(Ax)/α and f = u(Ax)/α, row i of the Jacobian is

    Jᵢ = tᵢaᵢ − fᵢp,     p = Aᵀt,

which is linear in (tᵢaᵢ, fᵢ).  So the second moments of d + 2 columns give those of J minus
any row h, and a sparse A needs no dense rows:

    M = Σᵢ ωᵢ² (tᵢaᵢ, fᵢ, 1)ᵀ(tᵢaᵢ, fᵢ, 1)
    Σᵢ ωᵢ² (Jᵢ − h)ᵀ(Jᵢ − h) = T M Tᵀ     with T = [I, −p, −h]

with ωᵢ = 1, or ωᵢ = cᵢ/(1 − ℓᵢ), where ℓᵢ = ‖JᵢR‖² is the leverage of the row.

The read is plain NumPy, by panels of rows that stay in cache, and a pure function of its
arguments.  Nothing here depends on the use of the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.lazy import LazyBlock
from dresoftmax.model.units import AnyUnit
from dresoftmax.reductions.panels import sum_panels

__all__ = ["Moments", "Points", "read_moments"]

# Leverages are capped here: a row with more is fitted almost exactly, whatever its error.
MOST_LEVERAGE = 0.99


@dataclass(frozen=True, slots=True)
class Points:
    """The points and targets whose moments a read takes.

    Attributes
    ----------
    x, p : ndarray of shape (K, d)
        The points, and p at each.
    log_alpha : ndarray of shape (K,)
    targets : ndarray of shape (K,)
        The target of each point.
    unit : Exponentials or Unit
    roots : ndarray of shape (K, d, d) or None
        R at each point, which gives the leverages; if None, ω is one.
    """

    x: np.ndarray
    p: np.ndarray
    log_alpha: np.ndarray
    targets: np.ndarray
    unit: AnyUnit
    roots: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over rows; the sums over several sets of rows add up.

    Attributes
    ----------
    products : ndarray of shape (K, d + 2, d + 2)
        M at each point.
    scalars : ndarray of shape (K, 2)
        ‖c‖² and ‖f‖².
    slope : ndarray of shape (K, d)
        q = Aᵀ(t∘f).
    penalty : ndarray of shape (d, d)
        AᵀW²A; zero if `roots` were given.
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

    def spread(self, k: int, p: np.ndarray, h: np.ndarray) -> np.ndarray:
        """Return Σωᵢ²(Jᵢ − h)ᵀ(Jᵢ − h) at point k, of shape (d, d)."""
        T = np.column_stack([np.eye(len(p)), -p, -h])
        return T @ self.products[k] @ T.T


def read_moments(points: Points, blocks: Sequence[Block | LazyBlock], threads: int) -> Moments:
    """Return the moments over all rows of `blocks`."""
    return sum_panels(partial(_sum, points), blocks, threads)


def _sum(points: Points, panels: Iterable[Block]) -> Moments:
    K, d = points.x.shape
    total = Moments.zeros(K, d)
    for panel in panels:
        z = panel.matmul(points.x.T)
        for k in range(K):
            f, t, _ = points.unit.scaled(z[:, k], points.log_alpha[k])
            c = f - panel.b[points.targets[k]]
            omega = np.ones_like(c)
            if points.roots is not None:
                root = points.roots[k]
                JR = t[:, None] * panel.matmul(root) - np.outer(f, points.p[k] @ root)
                leverage = np.einsum("ij,ij->i", JR, JR)
                omega = c / (1.0 - np.minimum(leverage, MOST_LEVERAGE))
            left = omega * t
            right = np.stack([omega * f, omega], axis=1)
            side = panel.rmatmul(left[:, None] * right)
            M = total.products[k]
            M[:d, :d] += panel.gram(left * left)
            M[:d, d:] += side
            M[d:, :d] += side.T
            M[d:, d:] += right.T @ right
            total.scalars[k] += c @ c, f @ f
            total.slope[k] += panel.rmatmul(t * f)
        if points.roots is None and panel.w2.any():
            total.penalty[:] += panel.gram(np.broadcast_to(panel.w2, panel.rows))
    return total
