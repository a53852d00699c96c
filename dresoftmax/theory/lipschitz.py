"""The Lipschitz constant of the Hessian: the paper's bound, and observed lower bounds.

    ‖∇²L(x) − ∇²L(y)‖ ≤ M‖x − y‖

Every pair of points gives a lower bound of M.  Random pairs are far apart, and average over the
segment between them.  A search finds close pairs where the Hessian changes fastest.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np

from dresoftmax.inputs.arguments import check_count, check_number
from dresoftmax.model.evaluation import Evaluation
from dresoftmax.problem import Problem, ProblemOptions
from dresoftmax.theory.arguments import open_at
from dresoftmax.theory.lipschitz_search import DifferenceQuotient, Pair, in_ball, search

__all__ = [
    "LipschitzEstimate",
    "estimate_within",
    "lipschitz_bound",
    "lipschitz_estimate",
]


@dataclass(frozen=True, slots=True)
class LipschitzEstimate:
    """Observed lower bounds of the Lipschitz constant of ∇²L.

    Attributes
    ----------
    random, adversarial : float
        The largest quotient ‖∇²L(x) − ∇²L(y)‖/‖x − y‖ over random pairs, and over the close
        pairs that the search tried; 0 if every pair had a point with α ≤ 0.
    value : float
        The larger of the two.
    at : (ndarray, ndarray)
        The pair of points that attains it.
    """

    random: float
    adversarial: float
    value: float
    at: Pair = field(repr=False)


def lipschitz_bound(beta: float, R: float, n: int) -> float:
    """Return the paper's bound 20 β⁻⁵ n^3.5 exp(8R²) of the Lipschitz constant of ∇²L.

    Parameters
    ----------
    beta : float
        Lower bound of α = Σu(Ax), positive.
    R : float
        Bound of the norms, ≥ 0.
    n : int
        Rows of A.

    Returns
    -------
    float
        Infinite if it exceeds the largest float.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Notes
    -----
    Known (arXiv 2309.13482): the formula, for u(z) = exp(z) + z.

    Observed here: it is vacuous in practice, many orders of magnitude above
    `lipschitz_estimate`.

    Not found: the paper's exact conditions.  β is interpreted as a lower bound of α, and R as a
    bound of both ‖A‖ and ‖x‖.

    Examples
    --------
    >>> from dresoftmax import theory
    >>> f"{theory.lipschitz_bound(beta=100.0, R=1.0, n=100):.3g}"
    '59.6'
    """
    beta = check_number("beta", beta, positive=True)
    R = check_number("R", R)
    n = check_count("n", n, 1)
    power = math.log(20.0) - 5.0 * math.log(beta) + 3.5 * math.log(n) + 8.0 * R * R
    return math.exp(power) if power < math.log(sys.float_info.max) else math.inf


def lipschitz_estimate(
    A: Any,
    b: Any,
    w: Any = None,
    *,
    R: float = 1.0,
    pairs: int = 16,
    seed: int = 0,
    **options: Unpack[ProblemOptions],
) -> LipschitzEstimate:
    """Return lower bounds of the Lipschitz constant of ∇²L in the ball ‖x‖ ≤ R.

    Parameters
    ----------
    A, b, w, **options
        As in `dresoftmax.solve`; the options are `ridge`, `unit`, `client`, `engine` and
        `persist`.  b is one target.  w and ridge add a constant to ∇²L, and so change the result
        only by rounding.
    R : float, default 1.0
        Radius of the ball, > 0.
    pairs : int, default 16
        Number of random pairs, ≥ 1, drawn uniformly from the ball.
    seed : int, default 0
        Seed of the random pairs and of the search.

    Returns
    -------
    LipschitzEstimate
        Lower bounds, each a difference quotient of two Hessians.  Pairs that have a point with
        α ≤ 0 are left out.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, or a file cannot be read; and if every pair of points has one
        with α ≤ 0.

    Notes
    -----
    Known (Banach, 1938): the norm of a symmetric trilinear form is attained on the diagonal,
    sup ‖D³L[u]‖ = sup |D³L[u, u, u]| over unit vectors.

    Derived here: with v the leading eigenvector of D³L[u],
    ‖D³L[u]‖ = |D³L[u, v, v]| ≤ ‖D³L[v]v‖ ≤ ‖D³L[v]‖.  So the iteration u ← v never decreases
    ‖D³L[u]‖, until u is the leading eigenvector of D³L[u].  It uses the central difference
    D³L[u] ≈ (∇²L(x + hu) − ∇²L(x − hu))/2h.  The search starts at the random pair with the
    largest quotient and at its mirror image, and each step also tries a random point nearby.
    It may end in a local maximum; the true constant may be larger.

    A is read about 40 times, and once more for every two pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from dresoftmax import theory
    >>> A = np.random.default_rng(0).normal(size=(1000, 3))
    >>> A /= np.linalg.norm(A, ord=2)
    >>> found = theory.lipschitz_estimate(A, np.full(1000, 1e-3), R=1.0, pairs=4)
    >>> 0.0 < found.random < found.adversarial == found.value
    True
    >>> found.value < 1e-6 * theory.lipschitz_bound(beta=900.0, R=1.0, n=1000)
    True
    """
    R = check_number("R", R, positive=True)
    check_count("pairs", pairs, 1)
    check_count("seed", seed)
    with open_at(A, b, w, {}, options) as (problem, _):
        return estimate_within(problem, np.zeros(problem.d), R, pairs, seed)


def estimate_within(
    problem: Problem, centre: np.ndarray, R: float, pairs: int, seed: int = 0
) -> LipschitzEstimate:
    """Return the estimate in the ball of radius R around `centre`, for an open problem."""
    rng = np.random.default_rng(seed)
    points = [centre + offset for offset in in_ball(rng, 2 * pairs, problem.d, R)]
    found = problem.trials(points)
    quotients = [_quotient(*pair) for pair in zip(found[::2], found[1::2], strict=True)]
    i = int(np.argmax(quotients))
    x, y = points[2 * i : 2 * i + 2]
    random = DifferenceQuotient(quotients[i], (x, y), y - x)
    adversarial = search(problem, [x, y, 2.0 * centre - x, 2.0 * centre - y], centre, R, rng)
    best = max(random, adversarial, key=lambda found: found.value)
    if best.value < 0.0:
        raise ValueError(
            f"alpha is not positive at any of {2 * pairs} random points within R = {R:.6g}; pass a "
            "smaller R, or more pairs"
        )
    return LipschitzEstimate(
        max(random.value, 0.0), max(adversarial.value, 0.0), best.value, best.pair
    )


def _quotient(one: Evaluation | None, other: Evaluation | None) -> float:
    """Return ‖∇²L(x) − ∇²L(y)‖/‖x − y‖, or −1 if a point is outside the domain."""
    if one is None or other is None:
        return -1.0
    change = np.linalg.norm(one.hessian - other.hessian, ord=2)
    return float(change / np.linalg.norm(one.x - other.x))
