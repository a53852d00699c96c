"""Where Newton's method with approximate Hessians is guaranteed to converge, and how fast.

Let x* be the optimum, l = λ_min(∇²L(x*)) > 0, M the Lipschitz constant of ∇²L, H = ∇²L(x),
H̄ the mean of ∇²L between x and x*, and (1 − ε₀)H ⪯ Ĥ ⪯ (1 + ε₀)H.  Since ∇L(x) = H̄(x − x*),
the step x₊ = x − Ĥ⁻¹∇L(x) satisfies

    x₊ − x* = Ĥ⁻¹(Ĥ − H̄)(x − x*).

Let δ = M‖x − x*‖/l and H* = ∇²L(x*).  Then H lies between (1 ∓ δ)H*, Ĥ − H between
∓ε₀(1 + δ)H*, and H − H̄ between ∓(δ/2)H*.  In the norm of H* a step multiplies the distance
by at most

    ρ = (ε₀(1 + δ) + δ/2) / ((1 − ε₀)(1 − δ)),

which is below 0.2 if ε₀, δ ≤ 0.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from dresoftmax.inputs.arguments import check_number
from dresoftmax.problem import Problem, ProblemOptions
from dresoftmax.theory.arguments import open_at
from dresoftmax.theory.lipschitz import estimate_within
from dresoftmax.theory.lipschitz_search import typical_length

__all__ = ["Goodness", "goodness", "goodness_at", "predicted_iterations"]

# M·radius/l, as it is ascribed to the paper.
PART = 0.1
# Radius of a ball in which D³L is nearly constant, in units of a typical length.
NEAR = 0.01
# Random pairs of points in each estimate of M.
PAIRS = 8
# Relative.  Rounding must not turn a whole number of steps into the next one.
ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class Goodness:
    """Whether the convergence theorem applies to a start x0, see `goodness`.

    Attributes
    ----------
    l : float
        Smallest eigenvalue of ∇²L(x*).
    M : float
        Lipschitz constant of ∇²L near x*, as observed: a lower bound.
    radius : float
        0.1·l/M, or 0 if l is not positive.
    distance : float
        ‖x0 − x*‖.
    reach : float
        ‖x0 − x*‖ in the norm of ∇²L(x*), divided by √l: at least `distance`.  This is the norm
        in which steps are guaranteed to contract.  Infinite if l is not positive.
    applies : bool
        Whether l is positive and `distance` at most `radius`.
    """

    l: float  # noqa: E741 - as the paper calls it
    M: float
    radius: float
    distance: float
    reach: float
    applies: bool

    def contraction(self, sketch_error: float = 0.0) -> float:
        """Return ρ, the most by which a step multiplies the distance in the norm of ∇²L(x*).

        Raises
        ------
        ValueError
            If x0 is too far, or the sketch too coarse, to guarantee a contraction.
        """
        error = check_number("sketch_error", sketch_error)
        if self.reach > self.radius:
            raise ValueError(
                f"x0 is too far: {self.reach:.3g} in the norm of the Hessian, and the guarantee "
                f"ends at the radius {self.radius:.3g}; start nearer, or pass a larger weight w"
            )
        delta = self.M * self.reach / self.l
        kept = (1.0 - error) * (1.0 - delta)
        rate = (error * (1.0 + delta) + 0.5 * delta) / kept if kept > 0.0 else math.inf
        if rate >= 1.0:
            raise ValueError(
                f"sketch_error is {error:.3g}, which guarantees no contraction; pass at most 0.4, "
                "from a larger sketch"
            )
        return rate

    def predicted_iterations(self, eps: float, sketch_error: float = 0.0) -> int:
        """Return a number of steps that guarantees ‖x − x*‖ ≤ eps, provided that M is right.

        `sketch_error` is ε₀, see `spectral_error`.

        Raises
        ------
        ValueError
            As `contraction` does.
        """
        rate = self.contraction(sketch_error)
        return predicted_iterations(eps, self.reach, contraction=rate)


def goodness(
    A: Any,
    b: Any,
    x: Any,
    w: Any = None,
    *,
    x0: Any = None,
    **options: Unpack[ProblemOptions],
) -> Goodness:
    """Return the constants (l, M) of a minimum, and whether the convergence theorem reaches x0.

    Parameters
    ----------
    A, b, w, **options
        As in `dresoftmax.solve`; the options are `ridge`, `unit`, `client`, `engine` and
        `persist`.  b is one target.
    x : array_like of shape (d,)
        The minimum x*, such as ``solve(...).x``.
    x0 : array_like of shape (d,), optional
        The start; zeros by default.

    Returns
    -------
    Goodness

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, α(x) is not positive, or a file cannot be read.

    Notes
    -----
    Known (arXiv 2309.13482): the approximate Newton method needs O(log(‖x0 − x*‖/ε)) steps from
    near enough to a minimum.

    Derived here: x₊ − x* = Ĥ⁻¹(Ĥ − H̄)(x − x*), with H̄ the mean of ∇²L between x and x*.  In the
    norm of ∇²L(x*), with δ = M‖x − x*‖/l, a step multiplies ‖x − x*‖ by at most

        ρ = (ε₀(1 + δ) + δ/2) / ((1 − ε₀)(1 − δ)),

    which is below 0.2 if ε₀, δ ≤ 0.1.  In the Euclidean norm a sketched step need not contract:
    ‖Ĥ⁻¹(Ĥ − H)‖ may exceed ε₀ by a factor of √cond(H).  For a whole run δ is therefore computed
    from `reach` in place of `distance`.

    Not found: the paper's constants, and its conditions on A, b and w for l and M.  Two
    constants are ascribed to it and to the papers that it builds on: M‖x0 − x*‖ ≤ 0.1·l, and a
    contraction by 0.4 in each step.

    M is the largest quotient that `lipschitz_estimate` finds in a ball around x*.  The radius of
    the ball is 0.1·l/M, but at most the larger of the distance of x0 and of a step that changes
    Ax by 1 (root mean square).  A is read about 90 times.

    Examples
    --------
    >>> import numpy as np, dresoftmax
    >>> A = np.random.default_rng(0).normal(size=(1000, 3))
    >>> u = np.exp(A @ [0.5, -0.2, 0.1])
    >>> x = dresoftmax.solve(A, u / u.sum(), unit="exp").x
    >>> found = dresoftmax.theory.goodness(A, u / u.sum(), x, unit="exp", x0=x + 0.01)
    >>> found.applies, found.predicted_iterations(1e-9, sketch_error=0.1)
    (True, 10)
    """
    points = {"x": x} | ({} if x0 is None else {"x0": x0})
    with open_at(A, b, w, points, options) as (problem, found):
        return goodness_at(problem, *found)


def goodness_at(problem: Problem, x: np.ndarray, x0: np.ndarray | None = None) -> Goodness:
    """Return `goodness` of the minimum x of an open problem, for the start x0 (zeros)."""
    offset = (np.zeros(problem.d) if x0 is None else x0) - x
    distance = float(np.linalg.norm(offset))
    H = problem.evaluate(x).hessian
    lowest = float(np.linalg.eigvalsh(H)[0])
    length = typical_length(problem, x)
    M = estimate_within(problem, x, NEAR * length, PAIRS).value
    if lowest <= 0.0:
        return Goodness(lowest, M, 0.0, distance, math.inf, False)
    ball = min(_radius(lowest, M), max(distance, length))
    M = max(M, estimate_within(problem, x, ball, PAIRS).value)
    radius = _radius(lowest, M)
    reach = max(distance, math.sqrt(float(offset @ H @ offset) / lowest))
    return Goodness(lowest, M, radius, distance, reach, distance <= radius)


def predicted_iterations(eps: float, distance: float, *, contraction: float = 0.4) -> int:
    """Return ⌈log(distance/eps)/log(1/contraction)⌉: the steps from `distance` to `eps`.

    Parameters
    ----------
    eps : float
        The distance to reach, > 0.
    distance : float
        The distance of the start, ≥ 0.
    contraction : float, default 0.4
        The factor by which a step multiplies the distance, in [0, 1).

    Returns
    -------
    int
        0 if the start is near enough.

    Raises
    ------
    TypeError, ValueError
        If an argument is wrong.

    Notes
    -----
    Known (arXiv 2309.13482): O(log(‖x0 − x*‖/ε)) steps.

    Not found: the constant; a contraction of 0.4 is ascribed to the paper.

    Examples
    --------
    >>> from dresoftmax import theory
    >>> theory.predicted_iterations(1e-8, distance=1.0)
    21
    """
    eps = check_number("eps", eps, positive=True)
    distance = check_number("distance", distance)
    contraction = check_number("contraction", contraction)
    if contraction >= 1.0:
        raise ValueError(f"contraction is {contraction!r}; it must be below 1")
    if distance <= eps:
        return 0
    if contraction == 0.0:
        return 1
    steps = math.log(distance / eps) / -math.log(contraction)
    return math.ceil(steps * (1.0 - ROUNDING))


def _radius(l: float, M: float) -> float:  # noqa: E741
    return PART * l / M if M > 0.0 else math.inf
