"""`covariance`: the estimated covariance of the coefficients, by three reads of A.

The model: b = f(x°) + ε with fixed rows of A, and independent errors εᵢ of mean zero.  x̂
minimises L.  To first order, with H = ∇²L and the Jacobian J of f,

    x̂ − x̄ = H⁻¹Jᵀε,        Cov x̂ = H⁻¹ (Σᵢ E[εᵢ²] JᵢᵀJᵢ) H⁻¹,

where x̄ minimises the expectation of L.  Without ridge and w, x̄ is x°; the penalties bias it.
A penalty is not an observation and has no error, so the penalties enter only H; J is the
Jacobian of f alone.

- "sandwich" replaces E[εᵢ²] by cᵢ²/(1 − ℓᵢ)² (Huber 1967, White 1980; "HC3", MacKinnon and
  White 1985).  ℓᵢ = JᵢH⁻¹Jᵢᵀ is the leverage of the row, by which the fit shrinks its own
  residual.  Exponentials give a few rows high leverage at any n, so HC1, which only
  multiplies by n/(n − d), gives standard errors that are clearly too small.
- "gauss-newton" replaces every E[εᵢ²] by σ² = ‖c‖²/(n − d), and H by JᵀJ + AᵀW²A + λI.
  Without penalties this is σ²(JᵀJ)⁻¹, as in any nonlinear regression.

The sum of b.  If b = y/Σy, and the entries of y have independent errors ηᵢ, then
ε = η − fΣη to first order.  Its correlations are of order 1/n, over all pairs of rows, so their
effect does not vanish as n grows.  Derived here:

    Jᵀε = Jᵀη − (Jᵀf)Ση = Σᵢ ηᵢ(Jᵢ − h),     h = Jᵀf = q − ‖f‖²p,

so Jᵢ − h replaces Jᵢ.  For shares of counts, Cov b = (diag(f) − ffᵀ)/N, this gives JᵀCov(b)J
exactly.  Σb distinguishes the two cases: with independent errors it differs from one by about
‖ε‖, and after a division not at all.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.inference.agreement import (
    check_belongs,
    check_result,
    check_shapes,
    fits_of,
    remembered,
)
from dresoftmax.inference.jacobian_moments import Moments, Points, read_moments
from dresoftmax.inference.summary import Covariance
from dresoftmax.inputs.arguments import check_choice
from dresoftmax.model.evaluation import Evaluation
from dresoftmax.problem import POINTS, Problem, open_problem
from dresoftmax.result import JointResult, SolveResult

if TYPE_CHECKING:
    from distributed import Client

    from dresoftmax.model.units import Unit

__all__ = ["covariance", "covariance_of"]

KINDS = ("sandwich", "gauss-newton")
# Σb counts as one within this fraction of ‖c‖, which independent errors reach in about one case
# in a hundred; and within the rounding of b to float32, as a fraction of ‖b‖.
SUM_IS_ONE, SUM_ROUNDING = 0.01, 1e-7
# Eigenvalues up to this, times the number of columns, count as rounding errors of zero.
LEAST_EIGENVALUE = 1e-14


def covariance(
    A: Any,
    b: Any,
    result: SolveResult | JointResult,
    *,
    w: Any = None,
    ridge: float | None = None,
    unit: str | Unit | None = None,
    kind: str = "sandwich",
    client: Client | None = None,
    engine: str = "auto",
    persist: bool | None = None,
) -> Covariance | tuple[Covariance, ...]:
    """Estimate the covariance of the coefficients that `dresoftmax.solve` returned.

    Parameters
    ----------
    A, b
        The data that `solve` was given, in any container that it takes.
    result : SolveResult or JointResult
        The result of `solve`.  It stores unit, ridge and a scalar w.
    w : optional
        The weights that `solve` was given, if each row had its own.
    ridge, unit : optional
        Taken from the result by default; other values are an error.
    client, engine, persist
        As in `solve`.
    kind : {"sandwich", "gauss-newton"}, default "sandwich"
        "sandwich" is consistent for any variances of the errors.  "gauss-newton" assumes
        equal variances: it is more precise if they are equal, and wrong if not.

    Returns
    -------
    Covariance
        Its `matrix` of shape (d, d), standard errors, z and p-values, confidence
        intervals; ``print`` shows it as a table.
    tuple of Covariance
        One for each target of a `JointResult`; up to eight targets share the reads of A.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, as in `solve`; if `result` belongs to other data or options,
        or to the rescaled loss; if there are no more rows than columns; or if the
        coefficients are not determined: A without full rank and no ridge, or a Hessian
        that is not positive definite.

    Warns
    -----
    UserWarning
        If the solve has not converged.

    Notes
    -----
    The model is b = f(x) + ε with fixed rows of A and independent errors of mean zero; the
    results hold for many rows.  The module `dresoftmax.inference.covariance` has the derivation.
    The rows are read three times: twice for α, κ and the Hessian, once for the residuals.

    *Division by the sum.*  If Σb is closer to one than independent errors would leave it, b is
    assumed to be independent numbers divided by their sum, such as shares of counts.  The
    division correlates the errors, which matters for any number of rows.  If the sum of one was
    reached by adding to the entries, the assumption is wrong, and so are the standard errors.
    `Covariance.normalized` says which case was assumed.

    *Bias.*  `ridge` and `w` shrink x̂ towards zero.  The intervals are around the value that the
    penalised fit estimates, not around the x of the model.  The standard errors are then
    conservative: residuals contain some of the bias, and σ² counts all d columns as free.

    Examples
    --------
    >>> import numpy as np, dresoftmax
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(1000, 2))
    >>> y = np.exp(A @ [0.5, -0.2]) * rng.uniform(0.5, 1.5, size=1000)
    >>> b = y / y.sum()
    >>> result = dresoftmax.solve(A, b, unit="exp")
    >>> print(dresoftmax.covariance(A, b, result))
                           Fit of a distribution
    ====================================================================
    Rows:            1000          Columns:         2
    Unit:            exp           Covariance:      sandwich (HC3)
    Loss:            5.45384e-05   Errors:          b divided by its sum
    Residual scale:  0.000330598   R² over uniform: 0.7384
    ====================================================================
             coef   std err        z   P>|z|     [0.025     0.975]
    --------------------------------------------------------------------
    x0    0.48186    0.0167    28.90   0.000    0.44919    0.51454
    x1   -0.20320    0.0147   -13.82   0.000   -0.23202   -0.17437
    ====================================================================
    """
    check_result(result)
    check_choice("kind", kind, KINDS)
    options = remembered(result, w, ridge, unit)
    with open_problem(
        A, b, **options, client=client, engine=engine, persist=persist,
        check=partial(check_shapes, result),
    ) as problem:  # fmt: skip
        return covariance_of(problem, result, kind)


def covariance_of(
    problem: Problem, result: SolveResult | JointResult, kind: str = "sandwich"
) -> Covariance | tuple[Covariance, ...]:
    """Return `covariance` for a problem that is already open, and its result."""
    fits = fits_of(result)
    check_shapes(result, problem.data)
    failed = [fit for fit in fits if not fit.success]
    if failed:
        which = f"{len(failed)} of {len(fits)} targets have" if fits[1:] else "the solve has"
        warnings.warn(
            f"{which} not converged ({failed[0].status.name}): x is not a minimiser, and the "
            "covariance assumes one; solve to convergence first",
            UserWarning,
            stacklevel=3,
        )
    if problem.n <= problem.d:
        raise ValueError(
            f"A has {problem.n} rows and {problem.d} columns, which leaves no residuals to "
            f"estimate the errors from; at least {problem.d + 1} rows are needed"
        )
    found: list[Covariance] = []
    for first in range(0, len(fits), POINTS):
        targets = range(first, min(first + POINTS, len(fits)))
        found += _covariances(problem, fits, targets, kind)
    if isinstance(result, SolveResult):
        return found[0]
    names = result.coefficients
    return tuple(replace(each, target_name=name) for each, name in zip(found, names, strict=True))


def _covariances(
    problem: Problem, fits: Sequence[SolveResult], targets: Sequence[int], kind: str
) -> list[Covariance]:
    """Return the covariances of some targets, from shared reads."""
    evaluations = problem.evaluate_all([fits[t].x for t in targets], targets)
    for t, evaluation in zip(targets, evaluations, strict=True):
        check_belongs(fits[t], evaluation, problem.of_target(t).target_totals.b_norm)
    roots = None
    if kind == "sandwich":
        roots = np.array(
            [_root(evaluation.hessian, np.diag(evaluation.gram)) for evaluation in evaluations]
        )
    points = Points(
        x=np.array([evaluation.x for evaluation in evaluations]),
        p=np.array([evaluation.p for evaluation in evaluations]),
        log_alpha=np.array([evaluation.log_alpha for evaluation in evaluations]),
        targets=np.array(targets),
        unit=problem.unit,
        roots=roots,
    )
    moments = problem.engine.reduce(partial(read_moments, points))
    each_root = [None] * len(evaluations) if roots is None else list(roots)
    return [
        _covariance(problem.of_target(t), fits[t], evaluation, root, moments, k)
        for k, (t, evaluation, root) in enumerate(zip(targets, evaluations, each_root, strict=True))
    ]


def _covariance(
    problem: Problem,
    fit: SolveResult,
    evaluation: Evaluation,
    root: np.ndarray | None,
    moments: Moments,
    k: int,
) -> Covariance:
    """Return H⁻¹ (meat) H⁻¹; `root` is R with RRᵀ = H⁻¹, or None for Gauss-Newton."""
    n, d, totals = problem.n, problem.d, problem.target_totals
    norm2_c, norm2_f = moments.scalars[k]
    off = abs(totals.b_sum - 1.0)
    normalized = off <= max(SUM_IS_ONE * math.sqrt(norm2_c), SUM_ROUNDING * totals.b_norm)
    h = moments.slope[k] - norm2_f * evaluation.p if normalized else np.zeros(d)
    kind, meat, variance = "sandwich", moments.spread(k, evaluation.p, h), norm2_c / (n - d)
    if root is None:
        kind, meat = "gauss-newton", variance * meat
        penalty = moments.penalty + problem.ridge * np.eye(d)
        terms = moments.products[k].diagonal()[:d] + penalty.diagonal()
        root = _root(moments.spread(k, evaluation.p, np.zeros(d)) + penalty, terms)
    matrix = root @ (root.T @ meat @ root) @ root.T
    uniform = 2.0 * problem.loss.at_origin(totals)[0]
    return Covariance(
        matrix=0.5 * (matrix + matrix.T),
        x=fit.x,
        names=tuple(fit.coefficients),
        kind=kind,
        n=n,
        sigma=math.sqrt(variance),
        loss=evaluation.loss,
        r_squared=float(1.0 - norm2_c / uniform) if uniform > 0.0 else math.nan,
        unit=problem.unit.name,
        normalized=normalized,
    )


def _root(bread: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Return R with RRᵀ = H⁻¹, or raise if H (`bread`) is not positive definite.

    `terms` is the diagonal before the terms of H cancel, which sets the scale of rounding errors.
    """
    size = np.maximum(np.abs(terms), np.diag(bread))
    scale = np.divide(1.0, np.sqrt(size), out=np.zeros_like(size), where=size > 0.0)
    values, vectors = np.linalg.eigh(bread * np.outer(scale, scale))
    if values[0] <= LEAST_EIGENVALUE * len(values):
        raise ValueError(
            "the Hessian at x is not positive definite (its smallest eigenvalue, after scaling, "
            f"is {values[0]:.2e}), so that the coefficients are not determined: x is not a strict "
            "minimum, or columns of A are (nearly) linearly dependent or constant; leave such "
            "columns out, or solve with ridge or w"
        )
    return scale[:, None] * vectors / np.sqrt(values)
