"""The objective at one point: what a loss makes of the sums of a read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["Evaluation", "TrialPoint"]


@dataclass(frozen=True, slots=True)
class TrialPoint:
    """A point to evaluate, with the predictions of log α and κ there."""

    x: np.ndarray
    log_alpha: float
    kappa: float

    @classmethod
    def beyond(cls, x: np.ndarray, largest_z: float, weight: float) -> TrialPoint:
        """Return a point at which α overflowed or vanished in units of its reference.

        α lies between exp(max z) and n times that; `weight` is n.
        """
        return cls(x, float(largest_z) + float(np.log(weight)), 0.0)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The objective at one point: value, gradient, Hessian, and predictions nearby.

    All of it is in units of N², with N = exp(`log_unit`).  N is 1 unless the loss grows
    with α, so that its values would overflow.

    Attributes
    ----------
    x, gradient, p, dkappa : ndarray of shape (d,)
        The point, ∇L, ∇log α and ∇κ.
    loss, log_alpha, kappa : float
        κ = ⟨f, ℓ'(f)⟩, or what the loss has in its place.
    hessian : ndarray of shape (d, d)
        ∇²L, with G exact or sketched.
    gram : ndarray of shape (d, d)
        G alone, which cancels against the other terms of ∇²L if L is flat.
    total : float
        S = α/α₀: how far the prediction of α was off, as a factor.
    doubt : float
        Bound on the relative error of G caused by the predictions of α and κ.  It is
        infinite if no Hessian was asked for, and G is left out of `hessian` then.
    log_unit : float
        log N.
    """

    x: np.ndarray
    loss: float
    gradient: np.ndarray
    hessian: np.ndarray
    log_alpha: float
    kappa: float
    p: np.ndarray
    dkappa: np.ndarray
    gram: np.ndarray
    total: float
    doubt: float
    log_unit: float = 0.0

    @property
    def alpha(self) -> float:
        """α = Σu(Ax), infinite if it exceeds the largest float."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_alpha))

    def full(self, value: Any) -> Any:
        """Return a loss or a gradient in units of one."""
        if self.log_unit == 0.0:
            return value
        with np.errstate(over="ignore"):
            return value * float(np.exp(2.0 * self.log_unit))

    @property
    def full_loss(self) -> float:
        """L itself."""
        return self.full(self.loss)

    @property
    def full_gradient(self) -> np.ndarray:
        """∇L itself."""
        return self.full(self.gradient)

    @property
    def point(self) -> TrialPoint:
        """The point, with log α and κ as they were found there."""
        return TrialPoint(self.x, self.log_alpha, self.kappa)

    def predict(self, step: np.ndarray) -> tuple[float, float]:
        """Return the references (log α₀, κ₀) for the point x + step."""
        return self.log_alpha + float(self.p @ step), self.kappa + float(self.dkappa @ step)

    def after(self, step: np.ndarray) -> TrialPoint:
        """Return the point x + step, with its predictions."""
        return TrialPoint(self.x + step, *self.predict(step))

    def moved(self, x: np.ndarray, ridge: float) -> Evaluation:
        """Return the evaluation at another point with the same Ax; λ is in units of N²."""
        loss = self.loss + 0.5 * ridge * float(x @ x - self.x @ self.x)
        return replace(self, x=x, loss=loss, gradient=self.gradient + ridge * (x - self.x))

    def with_gram(self, gram: np.ndarray) -> Evaluation:
        """Return the evaluation with another G, and ∇²L with it."""
        return replace(self, gram=gram, hessian=self.hessian + (gram - self.gram))
