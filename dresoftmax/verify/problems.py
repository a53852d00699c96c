"""Regression problems whose optimum is known, with an independent implementation of the loss.

b is f(x*) itself, so that L(x*) = 0 is the minimum, or f(x*) with noise.  The loss is plain
NumPy and independent of the package's own reads.  Its gradient comes from complex steps, which
have no cancellation, and its Hessian from central differences of the gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from dresoftmax.model.units import UNITS

__all__ = ["Synthetic", "directions", "spectrum_matrix", "synthetic"]

COMPLEX_STEP = 1e-30
# Step of central differences: about where their truncation error h² equals their rounding ε/h.
DIFFERENCE = 6e-6


@dataclass(frozen=True)
class Synthetic:
    """Data and penalty of a problem, and the x* that b was computed at."""

    A: np.ndarray = field(repr=False)
    b: np.ndarray = field(repr=False)
    x: np.ndarray = field(repr=False)
    unit: str
    w: float = 0.0

    def loss(self, x: np.ndarray) -> complex:
        """Return L at a real or complex `x`."""
        z = self.A @ x
        # With a log α of zero, this is u itself.
        u = UNITS[self.unit].scaled(z, 0.0)[0]
        c = u / u.sum() - self.b
        return 0.5 * np.sum(c * c) + 0.5 * np.sum((self.w * z) ** 2)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Return ∇L by complex steps."""
        steps = 1j * COMPLEX_STEP * np.eye(len(x))
        return np.array([self.loss(x + step).imag for step in steps]) / COMPLEX_STEP

    def hessian(self, x: np.ndarray) -> np.ndarray:
        """Return ∇²L by central differences of the gradient, with steps scaled to the columns."""
        size = DIFFERENCE / np.sqrt(np.mean(self.A**2, axis=0))
        rows = [
            (self.gradient(x + h) - self.gradient(x - h)) / (2.0 * h.sum()) for h in np.diag(size)
        ]
        H = np.array(rows)
        return 0.5 * (H + H.T)


def synthetic(
    n: int,
    d: int,
    cond: float,
    unit: str,
    rng: np.random.Generator,
    *,
    size: float = 1.0,
    noise: float = 0.0,
    w: float = 0.0,
) -> Synthetic:
    """Make a problem of given shape and condition.

    The columns of A have mean zero, so that α ≥ n if u is exp(z) + z (Jensen).  The singular
    values of A go from √n to √n/cond.  The RMS of A x* over the rows is `size`, with equal shares
    of the singular directions.  `noise` is relative to the entries of b.
    """
    A, V, values = spectrum_matrix(n, d, cond, rng)
    x = V @ (rng.choice([-1.0, 1.0], d) / values) * size * math.sqrt(n / d)
    u = UNITS[unit].scaled(A @ x, 0.0)[0]
    b = u / u.sum()
    b = b + noise * b * rng.standard_normal(n)
    return Synthetic(A, b / b.sum(), x, unit, w)


def spectrum_matrix(
    n: int, d: int, cond: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A with columns of mean zero, its right singular vectors, and its singular values.

    The singular values go from √n to √n/cond.
    """
    U = rng.standard_normal((n, d))
    U = np.linalg.qr(U - U.mean(axis=0))[0]
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    values = math.sqrt(n) * np.geomspace(1.0, 1.0 / cond, d)
    return (U * values) @ V.T, V, values


def directions(d: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return random unit vectors, of shape (count, d)."""
    rows = rng.standard_normal((count, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
