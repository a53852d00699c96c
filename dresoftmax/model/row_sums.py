"""What one read returns, and how two of them add.

A read at x takes the unit u and its derivatives in units of a reference α₀, a prediction of
α = Σu(Ax):

    u' = u(z)/α₀     v' = u'(z)/α₀     e' = u''(z)/α₀     z = Ax

Its sums over rows are those of `layout`.  What a loss makes of them is in `losses`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dresoftmax.model.layout import LARGEST_Z, LEVERAGE, N_SCALARS, N_VECTORS, TOTAL

__all__ = ["RowSums"]


@dataclass(slots=True)
class RowSums:
    """Sums over the rows that were read, at K points.

    Attributes
    ----------
    scalars : ndarray of shape (K, N_SCALARS)
        Sums of numbers, and the largest z (|z| if exp(−z) is in u), see `layout`.
    vectors : ndarray of shape (K, N_VECTORS, d)
        Sums of rows of A, see `layout`.
    gram : ndarray of shape (G, d, d)
        G = Aᵀdiag(D)A, exact or sketched, for each point, then AᵀA if the whitening was
        asked for.  There are none if no Hessian was asked for.
    squares : ndarray of shape (d,)
        Diagonal of AᵀA, exact, if a sketch of AᵀA was asked for.
    rows, sketched : int
        Rows read, and rows that entered the Hessian.
    bad : (int, int) or None
        Block and row of the first NaN or infinity found in A.
    """

    scalars: np.ndarray
    vectors: np.ndarray
    gram: np.ndarray
    squares: np.ndarray
    rows: int = 0
    sketched: int = 0
    bad: tuple[int, int] | None = None

    @classmethod
    def zeros(cls, points: np.ndarray, grams: int) -> RowSums:
        """Return the sums over no rows."""
        K, d = points.shape
        scalars = np.zeros((K, N_SCALARS))
        scalars[:, LARGEST_Z] = -np.inf
        return cls(scalars, np.zeros((K, N_VECTORS, d)), np.zeros((grams, d, d)), np.zeros(d))

    def part(self, points: slice) -> RowSums:
        """Return the sums at some of the points."""
        K = len(self.scalars)
        if len(self.scalars[points]) == K:
            return self
        gram = np.concatenate([self.gram[:K][points], self.gram[K:]])
        return replace(self, scalars=self.scalars[points], vectors=self.vectors[points], gram=gram)

    @np.errstate(all="ignore")  # an overflowing trial may bring infinities of both signs
    def __add__(self, other: RowSums) -> RowSums:
        if not self.rows:
            return other
        if not other.rows:
            return self
        scalars = self.scalars + other.scalars
        scalars[:, LARGEST_Z] = np.maximum(self.scalars[:, LARGEST_Z], other.scalars[:, LARGEST_Z])
        bad = min(self.bad, other.bad) if self.bad and other.bad else self.bad or other.bad
        return RowSums(
            scalars,
            self.vectors + other.vectors,
            self.gram + other.gram,
            self.squares + other.squares,
            self.rows + other.rows,
            self.sketched + other.sketched,
            bad,
        )

    @property
    def total(self) -> np.ndarray:
        """S = α/α₀ at each point."""
        return self.scalars[:, TOTAL]

    @property
    def largest_z(self) -> np.ndarray:
        """The largest z at each point, or |z| if exp(−z) is in u."""
        return self.scalars[:, LARGEST_Z]

    @property
    def total_leverage(self) -> float:
        """Στ at the first point, zero if no leverages were estimated."""
        return float(self.scalars[0, LEVERAGE])
