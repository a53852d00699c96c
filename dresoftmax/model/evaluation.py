"""What one read returns, how two of them add, and the model that they give.

A read at x with references α₀ and κ₀ takes the unit and its derivatives in units of α₀
(u' = u(z)/α₀, v' = u'(z)/α₀, e' = u''(z)/α₀, c' = u' − b) and returns sums over rows.
With S = Σu' and s = 1/S the driver then has, exactly,

    α = α₀S     f = s(c' + b)     c = f − b = sc' − (1−s)b     v/α = sv'
    ‖c‖² = s²⟨c',c'⟩ − 2s(1−s)⟨c',b⟩ + (1−s)²⟨b,b⟩
    ‖f‖² = s²(⟨c',c'⟩ + 2⟨c',b⟩ + ⟨b,b⟩)
    κ = ⟨f,c⟩ = s(s⟨c',c'⟩ + (2s−1)⟨c',b⟩ − (1−s)⟨b,b⟩)
    p = Aᵀv/α     q = Aᵀ(v∘f)/α     r = Aᵀ(v∘c)/α

    ∇L  = r − κp + Aᵀ(w²∘z) + λx
    ∇²L = G − qpᵀ − pqᵀ + ‖f‖²ppᵀ − rpᵀ − prᵀ + 2κppᵀ + λI

where G = Aᵀdiag(D)A, D = v'² + e'∘(c' − κ₀) + w², is the one sum that is taken
with the predictions α₀, κ₀ in place of α, κ.  As the iteration converges s → 1
and c' → c, so nothing cancels.  First-order predictions for x + Δ,

    log α₀ = log α + pᵀΔ        κ₀ = κ + Δᵀ(r − κp + q − ‖f‖²p),

leave an error of O(‖Δ‖²) in G, and Newton's method quadratic.

The rescaled loss ½‖u − αb‖² of softmax regression's sibling papers (arXiv 2305.00660) has
the same sums.  With c = u − αb, γ = ⟨c,b⟩ and all in units of α₀,

    c = c' + (1−S)b    ‖c‖² = ⟨c',c'⟩ + 2(1−S)⟨c',b⟩ + (1−S)²⟨b,b⟩    γ = ⟨c',b⟩ + (1−S)⟨b,b⟩
    p = Aᵀv'           q = Aᵀ(v'∘b)          r = Aᵀ(v'∘c') + (1−S)q

    ∇L  = r − γp + Aᵀ(w²∘z)/α₀² + λx/α₀²
    ∇²L = G − qpᵀ − pqᵀ + ⟨b,b⟩ppᵀ + λI/α₀²

with κ₀ a prediction of γ/α, whose gradient is Aᵀ(v∘b)/α − ⟨f,b⟩∇log α.  A `Evaluation` of it
is in units of N², which stays the same from point to point.

Arrays and algebra only: no rows, no iteration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Evaluation", "RowSums"]

# As the kernels lay them out.
N_SCALARS = 7
N_VECTORS = 4


@dataclass(slots=True)
class RowSums:
    """Sums over the rows that were read, at K points.

    Attributes
    ----------
    scalars : ndarray of shape (K, 7)
        Σu', ⟨c',c'⟩, ⟨c',b⟩, ⟨b,b⟩, Σw²z², max z (|z| where exp(−z) is in u), Στ.
    vectors : ndarray of shape (K, 4, d)
        Aᵀ of v', v'∘c', v'∘b and w²∘z.
    gram : ndarray of shape (G, d, d)
        Aᵀdiag(D)A, exact or sketched, for each point, then AᵀA where the
        metric was asked for.  G = 0 where no Hessian was.
    squares : ndarray of shape (d,)
        Diagonal of AᵀA, exact, where a sketch of AᵀA was asked for.
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
        scalars[:, 5] = -np.inf
        return cls(scalars, np.zeros((K, N_VECTORS, d)), np.zeros((grams, d, d)), np.zeros(d))

    def part(self, points: slice) -> RowSums:
        """Return the sums at some of the points."""
        K = len(self.scalars)
        if len(self.scalars[points]) == K:
            return self
        gram = np.concatenate([self.gram[:K][points], self.gram[K:]])
        return replace(self, scalars=self.scalars[points], vectors=self.vectors[points], gram=gram)

    def in_units(self, log_ratio: np.ndarray) -> RowSums:
        """Return the sums with G of each point times the square of its ratio, α₀/N."""
        gram = self.gram.copy()
        if len(gram):
            K = len(log_ratio)
            gram[:K] *= np.exp(2.0 * log_ratio)[:, None, None]
        return replace(self, gram=gram)

    @np.errstate(all="ignore")  # an overflowing trial may bring infinities of both signs
    def __add__(self, other: RowSums) -> RowSums:
        if not self.rows:
            return other
        if not other.rows:
            return self
        scalars = self.scalars + other.scalars
        scalars[:, 5] = np.maximum(self.scalars[:, 5], other.scalars[:, 5])
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
    def total(self) -> float:
        """S = α/α₀ at the first point."""
        return float(self.scalars[0, 0])

    @property
    def largest(self) -> np.ndarray:
        """The largest z at each point, or |z| where exp(−z) is in u."""
        return self.scalars[:, 5]

    @property
    def largest_z(self) -> float:
        """`largest` at the first point."""
        return float(self.largest[0])

    @property
    def total_leverage(self) -> float:
        """Στ at the first point, zero where no leverages were estimated."""
        return float(self.scalars[0, 6])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The objective at one point: value, gradient, Hessian, and predictions.

    Attributes
    ----------
    x, gradient, p, dkappa : ndarray of shape (d,)
        The point, ∇L, ∇log α and ∇κ.
    loss, log_alpha, kappa : float
    hessian : ndarray of shape (d, d)
        ∇²L, with G exact or sketched.
    gram : ndarray of shape (d, d)
        G alone, which cancels against the other terms of ∇²L where L is flat.
    scale : float
        S = α/α₀: how far the prediction of α was off, as a factor.
    doubt : float
        Bound on the relative error of G that comes of the predictions of α and κ;
        infinite where no Hessian was asked for, and G is left out of it.
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
    scale: float
    doubt: float

    @classmethod
    def from_sums(
        cls,
        sums: RowSums,
        k: int,
        x: np.ndarray,
        log_alpha0: float,
        kappa0: float,
        ridge: float,
        log_scale: float | None = None,
    ) -> Evaluation | None:
        """Return the model at point `k` of a read, or None outside the domain.

        None stands for α ≤ 0 and for overflow: such a trial is to be rejected.  With
        `log_scale`, log N, it is one of the rescaled loss; G is in units of N² already.
        """
        total, cc, cb, bb, wzz = sums.scalars[k, :5]
        if not (total > 0.0 and np.isfinite(total)):
            return None
        s = 1.0 / total
        vc, vb, wz = sums.vectors[k, 1:4]
        p = s * sums.vectors[k, 0]
        norm2_f = s * s * (cc + 2.0 * cb + bb)
        if log_scale is None:
            unit = 1.0
            norm2_c = s * s * cc - 2.0 * s * (1.0 - s) * cb + (1.0 - s) ** 2 * bb
            kappa = s * (s * cc + (2.0 * s - 1.0) * cb - (1.0 - s) * bb)
            q = s * s * (vc + vb)
            r = s * (s * vc - (1.0 - s) * vb)
            fit = r - kappa * p
            cross = np.outer(q + r, p)
            twice = norm2_f + 2.0 * kappa
            dkappa = fit + q - norm2_f * p
        else:
            # In units of α, then of N.
            unit = float(np.exp(2.0 * (log_alpha0 + np.log(total) - log_scale)))
            rest = s - 1.0
            norm2_c = s * s * cc + 2.0 * s * rest * cb + rest * rest * bb
            kappa = s * cb + rest * bb
            q = s * vb
            r = s * s * vc + s * rest * vb
            fit = r - kappa * p
            cross = np.outer(q, p)
            twice = bb
            dkappa = q - (kappa + bb) * p
            wzz, wz = s * s * wzz, s * s * wz
        loss = float(0.5 * (unit * (max(norm2_c, 0.0) + wzz) + ridge * (x @ x)))
        gradient = unit * (fit + wz) + ridge * x
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            return None
        known = len(sums.gram) > 0
        gram = sums.gram[k] if known else np.zeros((len(x), len(x)))
        hessian = gram - unit * (cross + cross.T - twice * np.outer(p, p))
        hessian[np.diag_indices_from(hessian)] += ridge
        log_alpha = log_alpha0 + float(np.log(total))
        doubt = 2.0 * abs(1.0 - s) + abs(kappa - kappa0) / (norm2_f + abs(kappa))
        doubt = float(doubt) if known else math.inf
        return cls(
            x=x,
            loss=loss,
            gradient=gradient,
            hessian=hessian,
            log_alpha=log_alpha,
            kappa=float(kappa),
            p=p,
            dkappa=dkappa,
            gram=gram,
            scale=float(total),
            doubt=doubt,
        )

    @property
    def alpha(self) -> float:
        """α = Σu(Ax), infinite where it exceeds the largest float."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_alpha))

    def moved(self, x: np.ndarray, ridge: float) -> Evaluation:
        """Return the model at another point with the same Ax."""
        loss = self.loss + 0.5 * ridge * float(x @ x - self.x @ self.x)
        return replace(self, x=x, loss=loss, gradient=self.gradient + ridge * (x - self.x))

    def with_gram(self, gram: np.ndarray) -> Evaluation:
        """Return the model with another G, and ∇²L with it."""
        return replace(self, gram=gram, hessian=self.hessian + (gram - self.gram))

    def predict(self, step: np.ndarray) -> tuple[float, float]:
        """Return the references (log α₀, κ₀) for the point x + step."""
        return self.log_alpha + float(self.p @ step), self.kappa + float(self.dkappa @ step)
