"""How far a sketched Hessian is from the exact one, as a form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg as la

from dresoftmax.inputs.arguments import check_choice, check_count
from dresoftmax.optimize.objective import TrialPoint
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.problem import Problem
from dresoftmax.theory.arguments import open_at

if TYPE_CHECKING:
    from distributed import Client

    from dresoftmax.model.units import Unit

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
    ridge: float = 0.0,
    unit: str | Unit = "exp+linear",
    client: Client | None = None,
    engine: str = "auto",
    persist: bool | None = None,
) -> float:
    """Return the least ε₀ with (1 − ε₀)H ⪯ Ĥ ⪯ (1 + ε₀)H for a sketch Ĥ of H = ∇²L(x).

    Parameters
    ----------
    A, b, w, ridge, unit, client, engine, persist
        As those of `dresoftmax.solve`; b is one target.
    x : array_like of shape (d,)
        The point, where α = Σu(Ax) must be positive.
    sketch : {"leverage", "uniform", "countsketch"}, default "leverage"
        The kind of sketch, as `hessian` of `dresoftmax.solve`.
    sketch_size : int
        Rows that enter it, on average; with n or more it is exact.
    seed : int, default 0
        The same seed and chunks draw the same rows.

    Returns
    -------
    float
        ε₀ ≥ 0; from 1 on Ĥ need not be positive definite.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, α(x) is not positive, or a file cannot be read; and if H is
        not positive definite, so that no ε₀ means anything.

    Notes
    -----
    Known (arXiv 2309.13482): the approximate Newton method asks this of Ĥ, with leverage
    scores.

    Derived here: ε₀ is the largest |μ − 1| over the generalised eigenvalues of Ĥy = μHy, and
    does not depend on the basis of the columns of A.  Observed, about √(d·log(d)/sketch_size)
    for "leverage".  Only the part Aᵀdiag(·)A of the Hessian is sketched; D has entries of both
    signs, which keep them.

    Not found: the paper's constant for the size of a sketch.

    Leverage scores are estimated, as in a solve, by random probes in the metric of the Hessian
    of an earlier read: here the exact one.

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
    with open_at(A, b, w, {"x": x}, ridge, unit, client, engine, persist) as (problem, (x,)):
        return sketch_errors_at(problem, x, [(sketch, sketch_size)], seed)[0]


def sketch_errors_at(
    problem: Problem, x: np.ndarray, sketches: Sequence[tuple[str, int]], seed: int = 0
) -> list[float]:
    """Return ε₀ of each sketch at x, of a kind and a size, for an opened problem.

    The exact Hessian, which all are compared with, is read once.
    """
    start = TrialPoint.at(problem.model(x))
    objective = problem.objective()
    reference = objective.evaluate([start], None, metric=True)
    (model,) = reference.models
    assert model is not None, "it is at its own point"
    metric, _ = objective.metric(reference)
    guide = QuadraticModel(model.gradient, model.hessian, metric, noise=0.0)
    errors = []
    for sketch, size in sketches:
        kind = "exact" if size >= problem.n else sketch
        objective = problem.objective(kind, float(size), seed)
        objective.reads = 1  # rows are drawn as in its second read, after the exact one
        (sketched,) = objective.evaluate([start], guide).models
        assert sketched is not None
        errors.append(relative_error(sketched.hessian, model.hessian))
    return errors


def relative_error(sketched: np.ndarray, H: np.ndarray) -> float:
    """Return the largest |μ − 1| with Ĥy = μHy, or raise where H is not positive definite."""
    # Scaled to a diagonal of ones, columns of any units can be told apart.
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
        "and no sketch is near it as a form; pass a minimum, or more weight w"
    )
