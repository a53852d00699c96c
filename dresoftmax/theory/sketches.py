"""How far a sketched Hessian is from the exact one, as a quadratic form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import scipy.linalg as la

from dresoftmax.inputs.arguments import check_choice, check_count
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.problem import Problem, ProblemOptions
from dresoftmax.theory.arguments import open_at

__all__ = ["relative_error", "sketch_errors_at", "spectral_error"]

SKETCHES = ("leverage", "uniform", "countsketch")


def spectral_error(
    A: Any,
    b: Any,
    x: Any,
    w: Any = None,
    *,
    sketch: str = "leverage",
    sketch_size: int,
    seed: int = 0,
    **options: Unpack[ProblemOptions],
) -> float:
    """Return the least ε₀ with (1 − ε₀)H ⪯ Ĥ ⪯ (1 + ε₀)H for a sketch Ĥ of H = ∇²L(x).

    Parameters
    ----------
    A, b, w, **options
        As in `dresoftmax.solve`; the options are `ridge`, `unit`, `client`, `engine` and
        `persist`.  b is one target.
    x : array_like of shape (d,)
        The point, where α = Σu(Ax) must be positive.
    sketch : {"leverage", "uniform", "countsketch"}, default "leverage"
        The kind of sketch, as `hessian` of `dresoftmax.solve`.
    sketch_size : int
        Expected number of rows in the sketch; with n or more it is exact.
    seed : int, default 0
        The same seed and chunks draw the same rows.

    Returns
    -------
    float
        ε₀ ≥ 0.  If ε₀ ≥ 1, Ĥ need not be positive definite.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, α(x) is not positive, or a file cannot be read; and if H is
        not positive definite: then ε₀ is not defined.

    Notes
    -----
    Known (arXiv 2309.13482): the approximate Newton method requires this of Ĥ, and gets it by
    leverage scores.

    Derived here: ε₀ is the largest |μ − 1| over the generalised eigenvalues of Ĥy = μHy, and
    does not depend on the basis of the columns of A.  Observed: about √(d·log(d)/sketch_size)
    for "leverage".  Only the part Aᵀdiag(D)A of the Hessian is sketched; D has entries of both
    signs, and they keep their signs.

    Not found: the paper's constant for the size of a sketch.

    As in a solve, leverage scores are estimated by random probes in the metric of an earlier
    Hessian; here that is the exact one.

    Examples
    --------
    >>> import numpy as np
    >>> from dresoftmax import theory
    >>> A = np.random.default_rng(0).normal(size=(5000, 3))
    >>> u = np.exp(A @ [0.5, -0.2, 0.1])
    >>> x = [0.5, -0.2, 0.1]
    >>> error = theory.spectral_error(A, u / u.sum(), x, unit="exp", sketch_size=1000)
    >>> 0.0 < error < 0.5
    True
    """
    check_choice("sketch", sketch, SKETCHES)
    check_count("sketch_size", sketch_size, 1)
    check_count("seed", seed)
    with open_at(A, b, w, {"x": x}, options) as (problem, (x,)):
        return sketch_errors_at(problem, x, [(sketch, sketch_size)], seed)[0]


def sketch_errors_at(
    problem: Problem, x: np.ndarray, sketches: Sequence[tuple[str, int]], seed: int = 0
) -> list[float]:
    """Return ε₀ at x of each sketch, given by kind and size, for an open problem.

    The exact Hessian is read once for all of them.
    """
    point = problem.evaluate(x).point
    objective = problem.objective()
    reference = objective.evaluate([point], column_gram=True)
    (exact,) = reference.evaluations
    assert exact is not None, "it is at its own point"
    whitening, _ = objective.whitening(reference)
    metric = QuadraticModel(exact.gradient, exact.hessian, whitening, noise=0.0)
    errors = []
    for sketch, size in sketches:
        kind = "exact" if size >= problem.n else sketch
        objective = problem.objective(kind, float(size), seed)
        (sketched,) = objective.evaluate([point], draw=reference.draw, metric=metric).evaluations
        assert sketched is not None
        errors.append(relative_error(sketched.hessian, exact.hessian))
    return errors


def relative_error(sketched: np.ndarray, H: np.ndarray) -> float:
    """Return the largest |μ − 1| with Ĥy = μHy, or raise if H is not positive definite."""
    # H is scaled to a unit diagonal, so that the units of the columns do not matter.
    scale = np.sqrt(np.maximum(np.diag(H), 0.0))
    if scale.all():
        scales = np.outer(scale, scale)
        try:
            off = la.eigh((sketched - H) / scales, H / scales, eigvals_only=True)
            return float(np.abs(off).max())
        except la.LinAlgError:
            pass
    smallest = la.eigvalsh(H, subset_by_index=(0, 0))[0]
    raise ValueError(
        f"the Hessian at x is not positive definite (its smallest eigenvalue is {smallest:.3g}), "
        "so that no sketch has a spectral error; pass a minimum, or a larger weight w"
    )
