"""The d×d algebra of a step: the quadratic model and its trust-region subproblem.

In the whitened coordinates y of `whitening`,

    minimise gᵀy + ½yᵀHy    subject to ‖y‖ ≤ ρ

is solved to the end (Moré and Sorensen, 1983): H may be indefinite, and the
hard case is handled.  Dense algebra only; no rows and no iteration.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import scipy.linalg as la

from dresoftmax.optimize.whitening import RANK_TOLERANCE, Whitening

__all__ = ["QuadraticModel"]

# Leverage scores count curvature below this part of the largest as so much.
LEAST_CURVATURE = 1e-6


class QuadraticModel:
    """The quadratic model gᵀy + ½yᵀHy of one point, in whitened coordinates.

    Parameters
    ----------
    gradient : ndarray of shape (d,)
    hessian : ndarray of shape (d, d)
    whitening : Whitening
    noise : float
        Size of rounding errors in Aᵀ(·) per RMS z.  Directions without curvature
        count only if the gradient along them is larger.
    """

    def __init__(
        self, gradient: np.ndarray, hessian: np.ndarray, whitening: Whitening, noise: float
    ) -> None:
        self._noise = noise
        self.whitening = whitening
        self._gradient = gradient
        self._hessian = hessian
        self.g = whitening.basis.T @ gradient
        H = whitening.basis.T @ hessian @ whitening.basis
        self.H = 0.5 * (H + H.T)

    @cached_property
    def _factor(self) -> np.ndarray | None:
        """Lower Cholesky factor of H, or None if H is not safely positive."""
        if not len(self.g):
            return self.H
        try:
            L = la.cholesky(self.H, lower=True)
        except la.LinAlgError:
            return None
        pivots = np.diag(L)
        floor = np.sqrt(RANK_TOLERANCE * len(L)) * pivots.max()
        return L if pivots.min() > floor else None

    @cached_property
    def _eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and vectors of H, without directions in which L is constant."""
        values, vectors = la.eigh(self.H)
        flat = np.abs(values) <= RANK_TOLERANCE * len(values) * np.abs(values).max()
        kept = ~flat | (np.abs(vectors.T @ self.g) > self._noise)
        return values[kept], vectors[:, kept]

    @property
    def lowest(self) -> np.ndarray:
        """The direction of lowest curvature, of length one, along which the model falls."""
        way = la.eigh(self.H, subset_by_index=(0, 0))[1][:, 0]
        return -way if self.g @ way > 0.0 else way

    @cached_property
    def newton(self) -> np.ndarray | None:
        """The unconstrained minimiser, or None if the model has none.

        If there are many, it is the one of least norm.
        """
        if self._factor is not None:
            return -la.cho_solve((self._factor, True), self.g)
        values, vectors = self._eigen
        if (values <= 0.0).any():
            return None
        return -vectors @ ((vectors.T @ self.g) / values)

    @cached_property
    def decrement(self) -> float:
        """√(gᵀH⁻¹g); infinite if H has negative curvature."""
        if self.newton is None:
            return float("inf")
        return float(np.sqrt(max(-self.g @ self.newton, 0.0)))

    @property
    def unseen(self) -> float:
        """Norm of the gradient that the Newton step leaves, in units of RMS z.

        It is a rounding error, unless a sketch of H or M has missed directions.
        """
        if self.newton is None:
            return float("inf")
        left = self._gradient + self._hessian @ (self.whitening.basis @ self.newton)
        return float(la.norm(left / self.whitening.column_norm))

    def stray(self, gram: np.ndarray) -> float:
        """Return √(eᵀH⁻¹e) with e = GΔ, Δ the Newton step: the decrement that G comes to.

        It is infinite if H is not safely positive.
        """
        if self.newton is None or self._factor is None:
            return float("inf")
        basis = self.whitening.basis
        strayed = basis.T @ (gram @ (basis @ self.newton))
        return float(la.norm(la.solve_triangular(self._factor, strayed, lower=True)))

    def largest(self, gram: np.ndarray) -> float:
        """Return a bound on ΔᵀGΔ/|ΔᵀHΔ| over all Δ: the trace of |H|⁻¹G."""
        root = self.inverse_root()
        return float(np.sum(root * (gram @ root)))

    def step(self, radius: float) -> np.ndarray:
        """Return the minimiser of the model within ‖y‖ ≤ radius."""
        if self.newton is not None and la.norm(self.newton) <= radius:
            return self.newton
        values, vectors = self._eigen
        return vectors @ _boundary(values, vectors.T @ self.g, radius)

    def reduction(self, y: np.ndarray) -> float:
        """Return how much the model falls at y."""
        return -float(self.g @ y + 0.5 * y @ self.H @ y)

    def inverse_root(self) -> np.ndarray:
        """Return R of shape (d, r) with R Rᵀ ≈ |H|⁻¹, for leverage scores."""
        if self._factor is not None:
            return la.solve_triangular(self._factor, self.whitening.basis.T, lower=True).T
        values, vectors = la.eigh(self.H)
        largest = float(np.abs(values).max(initial=0.0)) or 1.0
        size = np.maximum(np.abs(values), LEAST_CURVATURE * largest)
        return self.whitening.basis @ (vectors / np.sqrt(size)) @ vectors.T


def _boundary(values: np.ndarray, g: np.ndarray, radius: float) -> np.ndarray:
    """Return y = −(Λ + μI)⁻¹g with ‖y‖ = radius and Λ + μI positive.

    The unknown is δ = μ − max(0, −λ₁), which loses no digits if μ is close to
    −λ₁.  It is found by Newton's method on 1/‖y(δ)‖ − 1/radius, which is almost
    linear, kept within the interval that holds the root.
    """
    gaps = values + max(0.0, -float(values[0]))
    bottom = gaps <= 1e-12 * abs(values[0])
    if values[0] < 0.0 and la.norm(g[bottom]) <= 1e-14 * la.norm(g):
        # The hard case: g has no part along the lowest eigenvectors, and what the
        # other parts leave of the radius goes along one of them.
        y = np.zeros_like(g)
        y[~bottom] = -g[~bottom] / gaps[~bottom]
        left = radius**2 - float(y @ y)
        if left >= 0.0:
            y[0] = math.sqrt(left)
            return y
    low, high = 0.0, la.norm(g) / radius
    delta = high
    for _ in range(100):
        y = -g / (gaps + delta)
        norm = la.norm(y)
        if abs(norm - radius) <= 1e-12 * radius:
            break
        low, high = (delta, high) if norm > radius else (low, delta)
        slope = float(y**2 @ (1.0 / (gaps + delta))) / norm**3
        delta += (1.0 / radius - 1.0 / norm) / slope
        if not low < delta < high:
            delta = 0.5 * (low + high)
    return y
