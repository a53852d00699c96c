"""The losses that a fit may minimise.

A read at x with references α₀ and κ₀ takes the unit and its derivatives in units of α₀
(u' = u(z)/α₀, v' = u'(z)/α₀, e' = u''(z)/α₀, c' = u' − b).  Both losses here have the same
terms of a row,

    ⟨c',c'⟩   ⟨c',b⟩   ⟨b,b⟩     Aᵀ(v'∘c')   Aᵀ(v'∘b)     D = v'² + e'∘(c' − κ₀)

and with S = Σu' and s = 1/S, exactly, α = α₀S.  As the iteration converges s → 1 and
c' → c, so nothing cancels.  Source: "A Unified Scheme of ResNet and Softmax" (arXiv 2309.13482).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dresoftmax.model.layout import LOSS_SCALARS, LOSS_VECTORS, SLOPE
from dresoftmax.model.loss import Loss, LossTerms, TargetTotals

__all__ = ["LOSSES", "ROW_TERMS", "RescaledLoss", "SquaredLoss"]

# The losses' own sums: ⟨c',c'⟩, ⟨c',b⟩ and ⟨b,b⟩; Aᵀ(v'∘c') and Aᵀ(v'∘b).
CC, CB, BB = LOSS_SCALARS
VC, VB = LOSS_VECTORS


@dataclass(frozen=True, slots=True)
class SquaredLoss(Loss):
    """½‖f − b‖².

    With c = f − b and κ = ⟨f, c⟩,

        f = s(c' + b)     c = sc' − (1−s)b     v/α = sv'
        ‖c‖² = s²⟨c',c'⟩ − 2s(1−s)⟨c',b⟩ + (1−s)²⟨b,b⟩
        ‖f‖² = s²(⟨c',c'⟩ + 2⟨c',b⟩ + ⟨b,b⟩)
        κ = s(s⟨c',c'⟩ + (2s−1)⟨c',b⟩ − (1−s)⟨b,b⟩)
        p = Aᵀv/α     q = Aᵀ(v∘f)/α     r = Aᵀ(v∘c)/α

        ∇ℓ  = r − κp        ∇κ = r − κp + q − ‖f‖²p
        ∇²ℓ = G − (q + r)pᵀ − p(q + r)ᵀ + (‖f‖² + 2κ)ppᵀ
    """

    name: ClassVar[str] = "squared"

    @staticmethod
    def row_terms(m: Any, u: Any, v: Any, e: Any, b: Any, kappa: Any) -> tuple[Any, ...]:
        """Return the terms of a row, see `Loss.row_terms`."""
        c = u - b
        mc, mv = m * c, m * v
        return mc * c, mc * b, m * b * b, mv * c, mv * b, m * (v * v + e * (c - kappa))

    def terms(self, scalars: np.ndarray, vectors: np.ndarray, s: float) -> LossTerms:
        """Return the terms of the loss at a point."""
        cc, cb, bb = map(float, (scalars[CC], scalars[CB], scalars[BB]))
        vc, vb = vectors[VC], vectors[VB]
        p = s * vectors[SLOPE]
        norm2_f = s * s * (cc + 2.0 * cb + bb)
        norm2_c = s * s * cc - 2.0 * s * (1.0 - s) * cb + (1.0 - s) ** 2 * bb
        kappa = s * (s * cc + (2.0 * s - 1.0) * cb - (1.0 - s) * bb)
        q = s * s * (vc + vb)
        r = s * (s * vc - (1.0 - s) * vb)
        gradient = r - kappa * p
        return LossTerms(
            value=0.5 * max(norm2_c, 0.0),
            gradient=gradient,
            cross=q + r,
            square=norm2_f + 2.0 * kappa,
            kappa=kappa,
            dkappa=gradient + q - norm2_f * p,
            size=norm2_f,
        )

    def at_origin(self, totals: TargetTotals) -> tuple[float, float]:
        """Return ½‖f − b‖² and κ at x = 0."""
        loss = 0.5 * (totals.b_norm2 + (1.0 - 2.0 * totals.b_sum) / totals.n)
        return loss, (1.0 - totals.b_sum) / totals.n

    def scale(self, totals: TargetTotals) -> float:
        """Return ‖b‖."""
        return totals.b_norm

    def ascents(self, vectors: np.ndarray) -> list[np.ndarray]:
        """Return the slopes of ⟨u, b⟩ and α."""
        return [vectors[VB], vectors[SLOPE]]

    def sampling_rates(
        self, b: np.ndarray, n: int, b_norm1: np.ndarray, b_norm: np.ndarray
    ) -> np.ndarray:
        """Return ρᵢ = ⅓(1/n + |bᵢ|/‖b‖₁ + bᵢ²/‖b‖²).

        A third of a sample is spread evenly, and the rest follows the target: near the
        solution uᵢ is αbᵢ, and a row matters to α = Σu by its b, to ‖f − b‖² by the square
        of it.
        """
        even = 1.0 / n
        with np.errstate(invalid="ignore"):  # a target of zeros has no shares
            by_share = np.abs(b) / b_norm1[:, None] + np.square(b / b_norm[:, None])
        return np.where(b_norm[:, None] > 0.0, (even + by_share) / 3.0, even)


@dataclass(frozen=True, slots=True)
class RescaledLoss(SquaredLoss):
    """½‖u − αb‖², the loss of softmax regression's sibling papers (arXiv 2305.00660).

    With c = u − αb, γ = ⟨c, b⟩ and all in units of α₀,

        c = c' + (1−S)b    ‖c‖² = ⟨c',c'⟩ + 2(1−S)⟨c',b⟩ + (1−S)²⟨b,b⟩
        γ = ⟨c',b⟩ + (1−S)⟨b,b⟩     p = Aᵀv'     q = Aᵀ(v'∘b)     r = Aᵀ(v'∘c') + (1−S)q

        ∇ℓ  = r − γp        ∇²ℓ = G − qpᵀ − pqᵀ + ⟨b,b⟩ppᵀ

    and κ = γ/α, whose gradient is Aᵀ(v∘b)/α − ⟨f,b⟩∇log α.  w² and λ are in units of α², too.
    The loss is of order α²: it is taken in units of N², a number that stays the same from
    point to point.
    """

    name: ClassVar[str] = "rescaled"
    log_unit: float = 0.0

    def terms(self, scalars: np.ndarray, vectors: np.ndarray, s: float) -> LossTerms:
        """Return the terms of the loss at a point, in units of α²."""
        cc, cb, bb = map(float, (scalars[CC], scalars[CB], scalars[BB]))
        vc, vb = vectors[VC], vectors[VB]
        p = s * vectors[SLOPE]
        rest = s - 1.0
        norm2_c = s * s * cc + 2.0 * s * rest * cb + rest * rest * bb
        kappa = s * cb + rest * bb
        q = s * vb
        r = s * s * vc + s * rest * vb
        return LossTerms(
            value=0.5 * max(norm2_c, 0.0),
            gradient=r - kappa * p,
            cross=q,
            square=bb,
            kappa=kappa,
            dkappa=q - (kappa + bb) * p,
            size=s * s * (cc + 2.0 * cb + bb),
        )

    def at_origin(self, totals: TargetTotals) -> tuple[float, float]:
        """Return ½‖f − b‖² and κ at x = 0."""
        loss, _ = SquaredLoss.at_origin(self, totals)
        return loss, totals.b_sum / totals.n - totals.b_norm2

    def in_units_of(self, log_alpha: float) -> RescaledLoss:
        """Return the loss in units of this α, squared."""
        return replace(self, log_unit=log_alpha)

    def penalty_unit(self, log_alpha: np.ndarray) -> np.ndarray:
        """Return α₀⁻²."""
        return np.exp(-2.0 * log_alpha)

    def penalty_after(self, total: float) -> float:
        """Return (α₀/α)²."""
        return total**-2

    def unit(self, log_alpha: float) -> float:
        """Return (α/N)²."""
        return float(np.exp(2.0 * (log_alpha - self.log_unit)))

    def gram_unit(self, log_alpha: float) -> float:
        """Return (α₀/N)²."""
        return float(np.exp(2.0 * (log_alpha - self.log_unit)))

    def gram_after(self, total: float) -> float:
        """Return one: G is in units of N² already."""
        return 1.0


LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in (SquaredLoss, RescaledLoss)}
# What the kernels compile; losses with the same terms of a row share them.
ROW_TERMS = tuple(dict.fromkeys(loss.row_terms for loss in LOSSES.values()))
