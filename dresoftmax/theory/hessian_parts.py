"""The Hessian as the sum of the parts that the paper names, each with its bounds.

    ∇²L = Aᵀ(B_mat + B_rank + B_diag + W²)A + λI

    B_mat  = JᵀJ,  J = (diag(v) − f vᵀ)/α          with J the Jacobian of f in z
    B_rank = −(g vᵀ + v gᵀ)/α,  g = v∘(c − κ)/α    of rank at most two
    B_diag = diag(e∘(c − κ)/α)
    W²     = diag(w²)

These matrices are n×n, diagonal plus rank two, and none is formed.  With the sums over rows
p = Aᵀv/α, q = Aᵀ(v∘f)/α and r = Aᵀ(v∘c)/α, their d×d images are

    AᵀB_mat A  = Aᵀdiag(v²/α²)A − q pᵀ − p qᵀ + ‖f‖² p pᵀ
    AᵀB_rank A = −r pᵀ − p rᵀ + 2κ p pᵀ                        since Aᵀg = r − κp
    AᵀB_diag A = Aᵀdiag(e∘(c − κ)/α)A

A first read gives α and κ, a second one all the sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import numpy as np

from dresoftmax.problem import Problem, ProblemOptions
from dresoftmax.theory.arguments import open_at
from dresoftmax.theory.hessian_sums import sum_blocks
from dresoftmax.theory.row_operators import Part, Point, RowFactors

__all__ = ["HessianParts", "hessian_parts", "parts_at"]

# Singular values of A below √(this · d) times the largest are rounding errors of AᵀA.
RANK_TOLERANCE = 1e-14
# The last two entries of `PartSums.largest` are minima with their signs changed.
TURNED = np.array([1.0, 1.0, 1.0, -1.0, -1.0])


@dataclass(frozen=True, slots=True)
class HessianParts:
    """∇²L at a point as the sum of its parts, see `hessian_parts`.

    Attributes
    ----------
    x : ndarray of shape (d,)
        The point.
    alpha, kappa : float
        α = Σu(Ax), infinite if it exceeds the largest float, and κ = ⟨f, f − b⟩.
    B_mat, B_rank, B_diag, weight : Part
        The three parts of B, and W².
    sigma_min, sigma_max : float
        Smallest and largest singular value of A, from AᵀA.  The smallest counts as 0 if it is
        below √(1e-14·d) times the largest.
    ridge : float
        λ.
    """

    x: np.ndarray
    alpha: float
    kappa: float
    B_mat: Part
    B_rank: Part
    B_diag: Part
    weight: Part
    sigma_min: float
    sigma_max: float
    ridge: float

    def hessian(self) -> np.ndarray:
        """Return ∇²L(x) of shape (d, d): the sum of all images and λI."""
        images = [part.image for part in (self.B_mat, self.B_rank, self.B_diag, self.weight)]
        return sum(images, start=self.ridge * np.eye(len(self.x)))


def hessian_parts(
    A: Any,
    b: Any,
    x: Any,
    w: Any = None,
    **options: Unpack[ProblemOptions],
) -> HessianParts:
    """Return the Hessian at x as the sum of the paper's parts, with bounds of their eigenvalues.

    Parameters
    ----------
    A, b, w, **options
        As in `dresoftmax.solve`; the options are `ridge`, `unit`, `client`, `engine` and
        `persist`.  b is one target.
    x : array_like of shape (d,)
        The point, where α = Σu(Ax) must be positive.

    Returns
    -------
    HessianParts
        Each part is a symmetric n×n matrix that is never formed: ``part @ y`` applies it to a
        vector of length n, ``part.image`` is its d×d image Aᵀ · A, and ``part.low`` and
        ``part.high`` bound its eigenvalues.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, α(x) is not positive, or a file cannot be read.

    Notes
    -----
    Known (arXiv 2309.13482): ∇²L = Aᵀ(B_mat + B_rank + B_diag + W²)A, and B is the sum of a
    diagonal matrix and one of low rank.

    Derived here: the terms of each part.  With z = Ax, v = u'(z), e = u''(z), f = u(z)/α,
    c = f − b, κ = ⟨f, c⟩ and g = v∘(c − κ)/α they are

        B_mat = JᵀJ, J = (diag(v) − f vᵀ)/α     B_rank = −(g vᵀ + v gᵀ)/α
        B_diag = diag(e∘(c − κ)/α)              W² = diag(w²)

    Also derived here: bounds of their eigenvalues, for any unit.

    - B_mat: from 0 to (‖v‖_∞/α + ‖f‖‖v‖/α)².  0 is attained: J maps y with v∘y = f to zero, or,
      if an entry of v is zero, its unit vector.  The upper bound is the triangle inequality for J.
    - B_rank: −(⟨g, v⟩ ± ‖g‖‖v‖)/α.  If n ≥ 2, these are its eigenvalues: on the span of g and v
      it has the trace −2⟨g, v⟩/α and the determinant (⟨g, v⟩² − ‖g‖²‖v‖²)/α².
    - B_diag and W²: their smallest and largest entry.

    Not found: the bounds that the paper states for the parts.

    A is read three times.  If A is a dask array, a product with y is lazy, and computing it
    reads A once more, as it was passed.

    Examples
    --------
    >>> import numpy as np
    >>> from dresoftmax import theory
    >>> A = np.random.default_rng(0).normal(size=(1000, 3))
    >>> parts = theory.hessian_parts(A, np.full(1000, 1e-3), np.zeros(3))
    >>> round(parts.alpha, 6), parts.B_rank.shape, parts.hessian().shape
    (1000.0, (1000, 1000), (3, 3))
    >>> bool(parts.B_diag.low <= 0.0 <= parts.B_mat.low)
    True
    >>> (parts.B_mat @ np.ones(1000)).shape
    (1000,)
    """
    with open_at(A, b, w, {"x": x}, options) as (problem, (x,)):
        return parts_at(problem, x)


def parts_at(problem: Problem, x: np.ndarray) -> HessianParts:
    """Return the parts of the Hessian of an open problem at x."""
    found = problem.evaluate(x)
    point = Point.of(problem, found)
    sums = problem.engine.reduce(partial(sum_blocks, point))
    factors, kappa = RowFactors(problem.data, point), found.kappa
    of_v, of_bend, of_weight, of_ones = sums.grams
    p, q, r = sums.vectors
    ff, vv, gg, gv = map(float, sums.scalars)
    v_most, bend_most, w2_most, bend_least, w2_least = map(float, sums.largest * TURNED)
    spread = math.sqrt(gg * vv)
    pp, qp, rp = (np.outer(each, p) for each in (p, q, r))
    squares = np.linalg.eigvalsh(of_ones)
    squares[squares <= RANK_TOLERANCE * len(x) * squares[-1]] = 0.0

    def part(low: float, high: float, image: np.ndarray, core: Any, *place: Any) -> Part:
        return Part(problem.n, low, high, image, np.array(core), factors, *place)

    return HessianParts(
        x=x,
        alpha=found.alpha,
        kappa=kappa,
        B_mat=part(
            0.0, (v_most + math.sqrt(ff * vv)) ** 2, of_v - qp - qp.T + ff * pp,
            [[ff, -1.0], [-1.0, 0.0]], 3, slice(0, 2),
        ),
        B_rank=part(
            -gv - spread, -gv + spread, 2.0 * kappa * pp - rp - rp.T,
            [[0.0, -1.0], [-1.0, 0.0]], None, slice(0, 3, 2),
        ),
        B_diag=part(bend_least, bend_most, of_bend, [], 4, slice(0)),
        weight=part(w2_least, w2_most, of_weight, [], 5, slice(0)),
        sigma_min=float(np.sqrt(squares[0])),
        sigma_max=float(np.sqrt(squares[-1])),
        ridge=problem.ridge,
    )  # fmt: skip
