"""How good an answer is, computed in plain NumPy, independently of the solver.

With z = Ax, u = exp(z) + ℓz, v = u', e = exp(z), α = Σu, f = u/α, c = f − b, κ = ⟨f, c⟩:

    L = ½‖c‖²        ∇L = Aᵀ(v∘(c − κ))/α        p, q, r = Aᵀ[v, v∘f, v∘c]/α
    ∇²L = Aᵀdiag(v²/α² + e∘(c − κ)/α)A − (qpᵀ + pqᵀ) − (rpᵀ + prᵀ) + (‖f‖² + 2κ)ppᵀ
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la
from problems import Problem

from dresoftmax.model.units import UNITS

# Rows whose products with the Hessian's diagonal are held at a time.
ROWS = 16_384


@dataclass(frozen=True)
class Quality:
    """Loss over ‖b‖², ‖∇L(x)‖ over ‖∇L(0)‖, and Newton decrement over ‖b‖.

    The decrement is infinite if the Hessian is not positive definite.
    """

    loss: float
    gradient: float
    decrement: float


def loss_and_gradient(problem: Problem, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Return L/‖b‖² and its gradient: of order one, unlike L, which is of order 1/n."""
    _, v, f, c, alpha = _pointwise(problem, x)
    scale = problem.b @ problem.b
    return 0.5 * (c @ c) / scale, problem.A.T @ (v * (c - f @ c)) / (alpha * scale)


def hessian(problem: Problem, x: np.ndarray) -> np.ndarray:
    """Return the Hessian of L/‖b‖²."""
    A = problem.A
    e, v, f, c, alpha = _pointwise(problem, x)
    e, v, kappa = e / alpha, v / alpha, f @ c
    diagonal = v**2 + e * (c - kappa)
    gram = sum(
        A[i : i + ROWS].T @ (A[i : i + ROWS] * diagonal[i : i + ROWS, None])
        for i in range(0, len(A), ROWS)
    )
    p, q, r = (A.T @ (v * factor) for factor in (1.0, f, c))
    cross = np.outer(q + r, p)
    return (gram - cross - cross.T + (f @ f + 2.0 * kappa) * np.outer(p, p)) / (
        problem.b @ problem.b
    )


def _pointwise(
    problem: Problem, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Return e, v, f, c and α, with e, v and α divided by one constant against overflow."""
    z = problem.A @ x
    shift = max(float(z.max()), 0.0)
    linear = UNITS[problem.unit].linear * math.exp(-shift)
    e = np.exp(z - shift)
    u = e + linear * z
    alpha = float(u.sum())
    f = u / alpha
    return e, e + linear, f, f - problem.b, alpha


def judge(problem: Problem, x: np.ndarray) -> Quality:
    """Return how good x is."""
    origin = np.zeros(problem.A.shape[1])
    loss, gradient = loss_and_gradient(problem, x)
    relative = la.norm(gradient) / la.norm(loss_and_gradient(problem, origin)[1])
    try:
        factor = la.cho_factor(hessian(problem, x))
        # The decrement of L itself is ‖b‖ times as large.
        decrement = math.sqrt(gradient @ la.cho_solve(factor, gradient))
    except la.LinAlgError:
        decrement = math.inf
    return Quality(float(loss), float(relative), decrement)
