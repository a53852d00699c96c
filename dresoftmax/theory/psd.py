"""Whether the Hessian is positive semidefinite: guaranteed by bounds, and in fact.

Each part of ∇²L = Aᵀ(B_mat + B_rank + B_diag + W²)A + λI has a lower bound of its eigenvalues.
Let m be the sum of these bounds.  Then yᵀ∇²Ly ≥ m‖Ay‖² + λ‖y‖², and so

    λ_min(∇²L) ≥ m σ² + λ,   σ = σ_min(A) if m ≥ 0, else σ_max(A).

The bound ignores how the range of A lies relative to the parts, and is therefore conservative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from dresoftmax.inputs.arguments import check_number
from dresoftmax.problem import ProblemOptions
from dresoftmax.theory.arguments import open_at
from dresoftmax.theory.hessian_parts import HessianParts, parts_at

__all__ = ["PsdCertificate", "certificate_of", "psd_certificate", "required_weight", "weight_for"]

# Relative margin of the weight, so that rounding cannot void the guarantee.
MARGIN = 1e-12


@dataclass(frozen=True, slots=True)
class PsdCertificate:
    """Bound and value of the smallest eigenvalue of ∇²L at a point.

    Attributes
    ----------
    guaranteed : bool
        Whether `bound` is ≥ 0.
    bound : float
        Lower bound of the smallest eigenvalue, from the bounds of the parts alone.
    smallest, largest : float
        Smallest and largest eigenvalue, computed from the d×d matrix.
    direction : ndarray of shape (d,)
        Unit eigenvector of `smallest`.
    """

    guaranteed: bool
    bound: float
    smallest: float
    largest: float
    direction: np.ndarray


def psd_certificate(
    A: Any,
    b: Any,
    x: Any,
    w: Any = None,
    **options: Unpack[ProblemOptions],
) -> PsdCertificate:
    """Return whether ∇²L(x) is guaranteed to be positive semidefinite, and whether it is.

    Parameters
    ----------
    A, b, w, **options
        As in `dresoftmax.solve`; the options are `ridge`, `unit`, `client`, `engine` and
        `persist`.  b is one target.
    x : array_like of shape (d,)
        The point, where α = Σu(Ax) must be positive.

    Returns
    -------
    PsdCertificate

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, α(x) is not positive, or a file cannot be read.

    Notes
    -----
    Known (arXiv 2309.13482): the paper calls the Hessian positive semidefinite.

    Derived here: without enough weight it need not be, far from the optimum.  By the bounds of
    `hessian_parts`, a sufficient condition for any A and b is

        m = min w² + low(B_diag) + low(B_rank) ≥ 0,   low(B_mat) = 0.

    In general λ_min ≥ m σ² + λ, with σ = σ_min(A) if m ≥ 0, else σ_max(A).  The bound may be
    negative although the matrix is positive definite, and usually is.

    Not found: the constants of the paper's own condition.

    Examples
    --------
    >>> import numpy as np
    >>> from dresoftmax import theory
    >>> A = np.random.default_rng(0).normal(size=(1000, 3))
    >>> u = np.exp(A @ [0.5, -0.2, 0.1])
    >>> found = theory.psd_certificate(A, u / u.sum(), [0.5, -0.2, 0.1], unit="exp")
    >>> found.guaranteed, found.smallest > 0.0  # positive definite, though not guaranteed
    (False, True)
    >>> theory.psd_certificate(A, u / u.sum(), [0.5, -0.2, 0.1], w=0.1, unit="exp").guaranteed
    True
    """
    with open_at(A, b, w, {"x": x}, options) as (problem, (x,)):
        return certificate_of(parts_at(problem, x))


def certificate_of(parts: HessianParts) -> PsdCertificate:
    """Return `psd_certificate` for the parts of a Hessian."""
    values, vectors = np.linalg.eigh(parts.hessian())
    least = _least(parts) + parts.weight.low
    sigma = parts.sigma_min if least >= 0.0 else parts.sigma_max
    bound = least * sigma**2 + parts.ridge
    return PsdCertificate(
        guaranteed=bound >= 0.0,
        bound=bound,
        smallest=float(values[0]),
        largest=float(values[-1]),
        direction=vectors[:, 0],
    )


def required_weight(
    A: Any,
    b: Any,
    x: Any,
    l: float = 0.0,  # noqa: E741 - as the paper calls it
    **options: Unpack[ProblemOptions],
) -> float:
    """Return the least scalar w for which ∇²L(x) ⪰ l·I is guaranteed.

    Parameters
    ----------
    A, b, **options
        As in `dresoftmax.solve`; the options are `ridge`, `unit`, `client`, `engine` and
        `persist`.  b is one target.
    x : array_like of shape (d,)
        The point, where α = Σu(Ax) must be positive.  The guarantee holds only there.
    l : float, default 0
        The lower bound that the eigenvalues of ∇²L(x) must have, ≥ 0.

    Returns
    -------
    float
        To pass as `w`; 0 if no weight is needed.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, α(x) is not positive, or a file cannot be read; and if A is
        rank-deficient and l > λ: then no weight is enough.

    Notes
    -----
    Known (arXiv 2309.13482): with w² above a constant plus l/σ_min(A)² in every row,
    ∇²L ⪰ l·I.

    Derived here: the constant, from the bounds of `hessian_parts` at x,

        w² ≥ (l − λ)/σ² − low(B_diag) − low(B_rank),   σ = σ_min(A) if l ≥ λ, else σ_max(A).

    Not found: the paper's constant, which holds for all x in a ball.

    Examples
    --------
    >>> import numpy as np
    >>> from dresoftmax import theory
    >>> A = np.random.default_rng(0).normal(size=(1000, 3))
    >>> b = np.full(1000, 1e-3)
    >>> w = theory.required_weight(A, b, np.ones(3), l=0.1)
    >>> bool(theory.psd_certificate(A, b, np.ones(3), w).smallest >= 0.1)
    True
    """
    goal = check_number("l", l)
    with open_at(A, b, None, {"x": x}, options) as (problem, (x,)):
        return weight_for(parts_at(problem, x), goal)


def weight_for(parts: HessianParts, goal: float) -> float:
    """Return the least scalar w that guarantees eigenvalues ≥ `goal`."""
    left = goal - parts.ridge
    sigma = parts.sigma_min if left > 0.0 else parts.sigma_max
    if left > 0.0 and sigma == 0.0:
        raise ValueError(
            f"l is {goal:.6g}, but A is rank-deficient, and no weight adds curvature along its "
            f"null space; pass ridge >= {goal:.6g}, or leave out linearly dependent columns"
        )
    needed = (left / sigma**2 if sigma else 0.0) - _least(parts)
    return math.sqrt(max(0.0, needed)) * (1.0 + MARGIN)


def _least(parts: HessianParts) -> float:
    """Return the lower bound of the eigenvalues of B."""
    return parts.B_mat.low + parts.B_rank.low + parts.B_diag.low
