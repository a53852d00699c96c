"""What a loss is: a term for each row, and what the sums over rows make of the objective.

The objective is L(x) = ℓ(f, b) + ½‖diag(w)Ax‖² + ½λ‖x‖², with f = u(Ax)/α.  A read takes sums
with references α₀ and κ₀ in place of α and κ (see `row_sums`); the only one that is not
exact for that is

    G = Aᵀdiag(D)A.

With p = Aᵀv/α = ∇log α every loss here has

    ∇L  = g + Aᵀ(w²∘z) + λx
    ∇²L = G − apᵀ − paᵀ + τppᵀ + λI,

and a loss says what ℓ, g, a and τ are.  First-order predictions for x + Δ,

    log α₀ = log α + pᵀΔ        κ₀ = κ + ∇κᵀΔ,

leave an error of O(‖Δ‖²) in G, and Newton's method quadratic.

Arrays and algebra only: no rows, no iteration.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from dresoftmax.model.evaluation import Evaluation, TrialPoint
from dresoftmax.model.layout import PENALTY, PENALTY_VECTOR, SLOPE, TOTAL
from dresoftmax.model.row_sums import RowSums

__all__ = ["Loss", "LossTerms", "TargetTotals"]


@dataclass(frozen=True, slots=True)
class TargetTotals:
    """What is known of a target b before A is read: n, Σb, ‖b‖₁ and ‖b‖²."""

    n: int
    b_sum: float
    b_norm1: float
    b_norm2: float

    @property
    def b_norm(self) -> float:
        """‖b‖."""
        return math.sqrt(self.b_norm2)


class LossTerms(NamedTuple):
    """What a loss contributes at a point.

    Attributes
    ----------
    value, gradient : float, ndarray of shape (d,)
        ℓ and g.
    cross, square : ndarray of shape (d,), float
        a and τ, of the Hessian.
    kappa, dkappa : float, ndarray of shape (d,)
        κ and its gradient.
    size : float
        Of G per κ: what an error of κ is relative to.
    """

    value: float
    gradient: np.ndarray
    cross: np.ndarray
    square: float
    kappa: float
    dkappa: np.ndarray
    size: float


class Loss(ABC):
    """A loss ℓ(f, b) of the fitted distribution f.

    Attributes
    ----------
    name : str
        What `dresoftmax.solve` and results call it.
    log_unit : float
        log N: the objective is taken in units of N².
    """

    name: ClassVar[str]
    log_unit: float = 0.0

    @staticmethod
    @abstractmethod
    def row_terms(m: Any, u: Any, v: Any, e: Any, b: Any, kappa: Any) -> tuple[Any, ...]:
        """Return what a row adds to the loss's own sums, and its D.

        This is plain arithmetic: NumPy runs it as the reference, and the kernels compile it.

        Parameters
        ----------
        m
            How often the row counts.
        u, v, e
            The unit and its derivatives, in units of α₀.
        b, kappa
            The target, and κ₀.

        Returns
        -------
        scalar1, scalar2, scalar3
            For `layout.LOSS_SCALARS`.
        factor1, factor2
            Factors of the row of A in `layout.LOSS_VECTORS`.
        D
            Its factor in G.
        """

    @abstractmethod
    def terms(self, scalars: np.ndarray, vectors: np.ndarray, s: float) -> LossTerms:
        """Return the terms of the loss at a point, from its sums; s = α₀/α."""

    @abstractmethod
    def at_origin(self, totals: TargetTotals) -> tuple[float, float]:
        """Return the loss, in units of α², and κ at x = 0, where f = 1/n in every row."""

    @abstractmethod
    def scale(self, totals: TargetTotals) -> float:
        """Return what the tolerance and rounding errors of the decrement are relative to."""

    @abstractmethod
    def sampling_rates(
        self, b: np.ndarray, n: int, b_norm1: np.ndarray, b_norm: np.ndarray
    ) -> np.ndarray:
        """Return the relative rates at which rows are sampled, a line for each target.

        Parameters
        ----------
        b : ndarray of shape (k, rows)
        n : int
            Rows of A.
        b_norm1, b_norm : ndarray of shape (k,)
            ‖b‖₁ and ‖b‖ of each target.
        """

    def ascents(self, vectors: np.ndarray) -> list[np.ndarray]:
        """Return slopes of sums that have to be positive at a start, from the vectors of a read."""
        return [vectors[SLOPE]]

    def in_units_of(self, log_alpha: float) -> Self:
        """Return the loss in the units that suit points with about this α."""
        return self

    def penalty_unit(self, log_alpha: np.ndarray) -> np.ndarray:
        """Return the factor with which w² counts in a read with the references `log_alpha`."""
        return np.ones_like(log_alpha)

    def penalty_after(self, total: float) -> float:
        """Return the factor of the sums of w² when α was `total` times its reference."""
        return 1.0

    def unit(self, log_alpha: float) -> float:
        """Return the unit of `terms` at a point, in units of the objective."""
        return 1.0

    def gram_unit(self, log_alpha: float) -> float:
        """Return the unit of G in a read with the reference `log_alpha`."""
        return 1.0

    def gram_after(self, total: float) -> float:
        """Return the factor of G when α was `total` times its reference."""
        return total**-2

    def evaluate(self, sums: RowSums, k: int, point: TrialPoint, ridge: float) -> Evaluation | None:
        """Return the objective at point `k` of a read, or None outside the domain.

        None stands for α ≤ 0 and for overflow: such a trial is rejected.

        Parameters
        ----------
        sums : RowSums
        k : int
        point : TrialPoint
            What was asked of the read.
        ridge : float
            λ, in units of the objective.
        """
        scalars, vectors = sums.scalars[k], sums.vectors[k]
        total = scalars[TOTAL]
        if not (total > 0.0 and np.isfinite(total)):
            return None
        s = 1.0 / total
        log_alpha = point.log_alpha + float(np.log(total))
        unit = self.unit(log_alpha)
        quadratic = self.penalty_after(total)
        p = s * vectors[SLOPE]
        terms = self.terms(scalars, vectors, s)
        x = point.x
        loss = float(
            unit * (terms.value + 0.5 * quadratic * scalars[PENALTY]) + 0.5 * ridge * (x @ x)
        )
        gradient = unit * (terms.gradient + quadratic * vectors[PENALTY_VECTOR]) + ridge * x
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            return None
        known = len(sums.gram) > 0
        gram = np.zeros((len(x), len(x)))
        if known:
            gram = self.gram_unit(point.log_alpha) * sums.gram[k]
        cross = np.outer(terms.cross, p)
        hessian = gram - unit * (cross + cross.T - terms.square * np.outer(p, p))
        hessian.flat[:: len(x) + 1] += ridge
        doubt = 2.0 * abs(1.0 - s)
        doubt += abs(terms.kappa - point.kappa) / (terms.size + abs(terms.kappa))
        return Evaluation(
            x=x,
            loss=loss,
            gradient=gradient,
            hessian=hessian,
            log_alpha=log_alpha,
            kappa=float(terms.kappa),
            p=p,
            dkappa=terms.dkappa,
            gram=gram,
            total=float(total),
            doubt=float(doubt) if known else math.inf,
            log_unit=self.log_unit,
        )

    def noise(self, loss: float, z_norm: float, scale: float) -> float:
        """Return the size of rounding errors in a loss.

        They are those of the sum, those of f − b, and those of z = Ax, which are large if
        the terms of Ax cancel.

        Parameters
        ----------
        loss : float
            That of a surrogate may be negative.
        z_norm : float
            Bound of the terms of Ax.
        scale : float
            See `scale`.
        """
        rounding = 1e-13 + 1e-15 * z_norm
        residual = math.sqrt(2.0 * max(loss, 0.0)) + 1e-15 * scale
        return rounding * loss + 1e-15 * scale * residual

    def gradient_noise(self, scale: float) -> float:
        """Return the size of rounding errors in the gradient, per RMS z."""
        return 1e-12 * scale**2
