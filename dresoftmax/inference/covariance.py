"""`covariance`: how far the estimate may be from what it estimates, by three reads of A.

The model: b = f(x°) + ε with given rows of A, and errors εᵢ of mean zero that do not
depend on each other.  x̂ minimises L.  To first order, with H = ∇²L and the Jacobian J
of f,

    x̂ − x̄ = H⁻¹Jᵀε,        Cov x̂ = H⁻¹ (Σᵢ E[εᵢ²] JᵢᵀJᵢ) H⁻¹,

where x̄ minimises the expectation of L; it is x° without ridge and w, and the penalties
draw it away from there.  What is penalised is no observation and has no error, so that
the penalties are in H and in no other place: `J` is that of f alone.

- "sandwich" has cᵢ²/(1 − ℓᵢ)² in place of E[εᵢ²] (Huber 1967, White 1980), where ℓᵢ = JᵢH⁻¹Jᵢᵀ
  is the leverage of the row, by which a fit makes its own residuals small ("HC3",
  MacKinnon and White 1985).  Exponentials give few rows much leverage at any n: HC1, a
  factor of n/(n − d) alone, has errors that are plainly too small.
- "gauss-newton" has σ² = ‖c‖²/(n − d) for all of them, and JᵀJ + AᵀW²A + λI for H;
  without penalties this is σ²(JᵀJ)⁻¹, as in any nonlinear regression.

The sum of b.  Where b = y/Σy, and it is the entries of y whose errors ηᵢ are independent,
then ε = η − fΣη to first order: a correlation of order 1/n, but of all pairs of rows, so
that it does not vanish as n grows.  (Derived here:)

    Jᵀε = Jᵀη − (Jᵀf)Ση = Σᵢ ηᵢ(Jᵢ − h),     h = Jᵀf = q − ‖f‖²p,

so that Jᵢ − h takes the place of Jᵢ.  For shares of counts, Cov b = (diag(f) − ffᵀ)/N,
this gives JᵀCov(b)J exactly.  Σb tells which it is: independent errors leave it at a
distance of about ‖ε‖ from one, and a division at none.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.inference.jacobian_moments import Moments, Points, read_moments
from dresoftmax.inference.summary import Covariance
from dresoftmax.inputs.arguments import Dataset, check_choice
from dresoftmax.model.evaluation import Evaluation
from dresoftmax.problem import POINTS, Problem, open_problem
from dresoftmax.result import JointResult, SolveResult

if TYPE_CHECKING:
    from distributed import Client

    from dresoftmax.model.units import Unit

__all__ = ["covariance"]

KINDS = ("sandwich", "gauss-newton")
# Σb counts as one within this part of ‖c‖, where independent errors would leave it in
# one case of a hundred, and within the rounding of b to float32, as part of ‖b‖.
SUM_IS_ONE, SUM_ROUNDING = 0.01, 1e-7
# Relative differences to what the solve has found that are put down to rounding, and to
# a last step that it foresaw, as a multiple of the decrement.
ROUNDING, FORESEEN = 1e-6, 10.0
# A smaller eigenvalue, for each column, is zero but for rounding errors.
LEAST_EIGENVALUE = 1e-14


def covariance(
    A: Any,
    b: Any,
    result: SolveResult | JointResult,
    *,
    w: Any = None,
    ridge: float = 0.0,
    unit: str | Unit = "exp+linear",
    kind: str = "sandwich",
    client: Client | None = None,
    engine: str = "auto",
    persist: bool | None = None,
) -> Covariance | tuple[Covariance, ...]:
    """Estimate the covariance of the coefficients that `dresoftmax.solve` has found.

    Parameters
    ----------
    A, b, w, ridge, unit, client, engine, persist
        What `solve` was given, in any container that it takes.
    result : SolveResult or JointResult
        What it returned.
    kind : {"sandwich", "gauss-newton"}, default "sandwich"
        "sandwich" is right whatever the variances of the errors are.  "gauss-newton"
        takes all of them for equal: more precise where they are, wrong where they are not.

    Returns
    -------
    Covariance
        Its `matrix` of shape (d, d), standard errors, z and p-values, confidence
        intervals; ``print`` shows it as a table.
    tuple of Covariance
        One for each target of a `JointResult`, by the same reads of A, eight at a time.

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
    The model is b = f(x) + ε with given rows of A, errors that are independent of each
    other and have mean zero, and many rows; `dresoftmax.inference.covariance` has the derivation.
    The rows are read three times: twice for α, κ and the Hessian, once for the residuals.

    *Division by the sum.*  Where Σb is one, nearer than such errors would leave it, b is
    taken for numbers that were divided by their sum, and those numbers for independent.  That
    correlates the errors, which matters however many rows there are; shares of counts are
    an example.  (Where a sum of one was reached by adding to the entries, that is not so,
    and these errors are not right.)  `Covariance.normalized` tells which it was.

    *Bias.*  `ridge` and `w` draw x̂ towards zero.  Intervals are around what a penalised fit
    estimates, which is not the x of the model.  Residuals then hold some of the bias, and
    σ² counts all d columns as free, so that the errors are rather too large.

    Examples
    --------
    >>> import numpy as np, dresoftmax
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(1000, 2))
    >>> y = np.exp(A @ [0.5, -0.2]) * rng.uniform(0.5, 1.5, size=1000)
    >>> b = y / y.sum()
    >>> result = dresoftmax.solve(A, b, unit="exp")
    >>> print(dresoftmax.covariance(A, b, result, unit="exp"))
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
    if not isinstance(result, SolveResult | JointResult):
        raise TypeError(
            f"result is of type {type(result).__name__}; pass what dresoftmax.solve returned"
        )
    check_choice("kind", kind, KINDS)
    fits = [result] if isinstance(result, SolveResult) else list(result)
    failed = [fit for fit in fits if not fit.success]
    if failed:
        which = f"{len(failed)} of {len(fits)} targets have" if fits[1:] else "the solve has"
        warnings.warn(
            f"{which} not converged ({failed[0].status.name}): x is no minimiser, and its "
            "covariance is that of none; solve to the end first",
            UserWarning,
            stacklevel=2,
        )
    with open_problem(
        A, b, w=w, ridge=ridge, unit=unit, client=client, engine=engine, persist=persist,
        check=partial(_check_shapes, fits, ridge),
    ) as problem:  # fmt: skip
        if problem.n <= problem.d:
            raise ValueError(
                f"A has {problem.n} rows and {problem.d} columns, which leaves nothing to tell the "
                f"errors from; at least {problem.d + 1} rows are needed"
            )
        found: list[Covariance] = []
        for first in range(0, len(fits), POINTS):
            targets = range(first, min(first + POINTS, len(fits)))
            found += _covariances(problem, fits, targets, kind)
    if isinstance(result, SolveResult):
        return found[0]
    names = result.coefficients
    return tuple(replace(each, target_name=name) for each, name in zip(found, names, strict=True))


def _check_shapes(fits: Sequence[SolveResult], ridge: float, data: Dataset) -> None:
    if len(fits) != (data.targets or 1):
        raise ValueError(
            f"result has {len(fits)} target(s), but b has {data.targets or 1}; pass the result of "
            "all of them, or the column of b that it belongs to"
        )
    if len(fits[0].x) != data.d:
        raise ValueError(
            f"result has {len(fits[0].x)} coefficients, but A has {data.d} columns; pass the A "
            "that was solved"
        )
    if fits[0].rank < data.d and not ridge:
        raise ValueError(
            f"A has rank {fits[0].rank}, less than its {data.d} columns, so that their "
            "coefficients are not determined one by one; leave columns out, or solve with ridge"
        )


def _covariances(
    problem: Problem, fits: Sequence[SolveResult], targets: Sequence[int], kind: str
) -> list[Covariance]:
    """Return the covariances of some targets, by the same reads."""
    models = problem.models([fits[t].x for t in targets], targets)
    for t, model in zip(targets, models, strict=True):
        _check_belongs(fits[t], model, problem.of_target(t).b_norm)
    roots = None
    if kind == "sandwich":
        roots = np.array([_root(model.hessian, np.diag(model.gram)) for model in models])
    points = Points(
        x=np.array([model.x for model in models]),
        p=np.array([model.p for model in models]),
        log_alpha=np.array([model.log_alpha for model in models]),
        targets=np.array(targets),
        unit=problem.unit,
        roots=roots,
    )
    moments = problem.engine.reduce(partial(read_moments, points))
    return [
        _covariance(
            problem.of_target(t), fits[t], model, None if roots is None else roots[k], moments, k
        )
        for k, (t, model) in enumerate(zip(targets, models, strict=True))
    ]


def _check_belongs(fit: SolveResult, model: Evaluation, b_norm: float) -> None:
    """Raise where the solve has found another α or gradient at x than there is."""
    slack = ROUNDING + (FORESEEN * fit.decrement / b_norm if fit.success else 0.0)
    # |gⱼ| is at most √(gᵀH⁻¹g)·√Hⱼⱼ, and √(gᵀH⁻¹g) is of the order of ‖b‖ where x is far off.
    scale = b_norm * np.sqrt(np.abs(np.diag(model.hessian)))
    same = (
        np.isclose(model.alpha, fit.alpha, rtol=slack, atol=0.0)
        and (np.abs(model.gradient - fit.jac) <= slack * scale).all()
    )
    if not same:
        raise ValueError(
            "these are not the data or options of the result: at its x alpha is "
            f"{model.alpha:.9g}, and was {fit.alpha:.9g}; the gradient has norm "
            f"{np.linalg.norm(model.gradient):.3g}, and had {np.linalg.norm(fit.jac):.3g}; pass "
            "A, b, w, ridge and unit as they were passed to solve (not for its rescaled loss)"
        )


def _covariance(
    problem: Problem,
    fit: SolveResult,
    model: Evaluation,
    root: np.ndarray | None,
    moments: Moments,
    k: int,
) -> Covariance:
    """Return H⁻¹ (meat) H⁻¹; `root` is that of the Hessian, or None for Gauss-Newton."""
    n, d, target = problem.n, problem.d, problem.target
    norm2_c, norm2_f = moments.scalars[k]
    off = abs(float(problem.profile.b_sum[target]) - 1.0)
    normalized = off <= max(SUM_IS_ONE * math.sqrt(norm2_c), SUM_ROUNDING * problem.b_norm)
    h = moments.slope[k] - norm2_f * model.p if normalized else np.zeros(d)
    kind, meat, variance = "sandwich", moments.spread(k, model.p, h), norm2_c / (n - d)
    if root is None:
        kind, meat = "gauss-newton", variance * meat
        penalty = moments.penalty + problem.ridge * np.eye(d)
        terms = moments.products[k].diagonal()[:d] + penalty.diagonal()
        root = _root(moments.spread(k, model.p, np.zeros(d)) + penalty, terms)
    matrix = root @ (root.T @ meat @ root) @ root.T
    uniform = 2.0 * float(problem.profile.origin_loss[target])
    return Covariance(
        matrix=0.5 * (matrix + matrix.T),
        x=fit.x,
        names=tuple(fit.coefficients),
        kind=kind,
        n=n,
        sigma=math.sqrt(variance),
        loss=model.loss,
        r_squared=float(1.0 - norm2_c / uniform) if uniform > 0.0 else math.nan,
        unit=problem.unit.name,
        normalized=normalized,
    )


def _root(bread: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Return R with RRᵀ = H⁻¹, or raise where H is not positive definite.

    `terms` is the diagonal before terms of H cancel: less than its rounding errors is zero.
    """
    size = np.maximum(np.abs(terms), np.diag(bread))
    scale = np.divide(1.0, np.sqrt(size), out=np.zeros_like(size), where=size > 0.0)
    values, vectors = np.linalg.eigh(bread * np.outer(scale, scale))
    if values[0] <= LEAST_EIGENVALUE * len(values):
        raise ValueError(
            "the Hessian at x is not positive definite (its smallest eigenvalue, with columns of "
            f"A scaled to one, is {values[0]:.2e}), so that the coefficients are not determined: "
            "x is no strict minimum, or columns of A are (nearly) dependent or constant; leave "
            "such columns out, or solve with ridge or w"
        )
    return scale[:, None] * vectors / np.sqrt(values)
