"""The user's own A and b: which guarantees of the paper apply, and how far the others are.

The regression is solved, and the conditions of the paper and of `dresoftmax.theory` are checked
at the solution.  Data need not meet them; required are only claims that hold for any data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.fit.multi_target import fit
from dresoftmax.fit.options import FitOptions
from dresoftmax.inputs.arguments import check_number, check_unit
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.model.losses import SquaredLoss
from dresoftmax.problem import Problem, open_problem
from dresoftmax.result import SolveResult
from dresoftmax.theory import (
    Goodness,
    HessianParts,
    PsdCertificate,
    lipschitz_bound,
    predicted_iterations,
)
from dresoftmax.theory.convergence import goodness_at
from dresoftmax.theory.hessian_parts import parts_at
from dresoftmax.theory.psd import certificate_of, weight_for
from dresoftmax.theory.sketches import sketch_errors_at
from dresoftmax.verify.claims import Claim, Kind, Section, Source, Table, number
from dresoftmax.verify.decomposition import ROUNDING, SIGN
from dresoftmax.verify.newton_iteration import KINDS

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["experiment"]

# Sizes of the sketches, in rows per column of A.
MULTIPLES = (8, 32, 128, 512)
# The ε₀ of the convergence theorem.
SPECTRAL_ERROR = 0.1


def experiment(
    A: Any,
    b: Any,
    *,
    w: Any = None,
    ridge: float = 0.0,
    unit: str = "exp+linear",
    seed: int = 0,
    client: Client | None = None,
) -> Section:
    """Return which guarantees apply to a problem, and how far it is from the others.

    The parameters are those of `dresoftmax.solve`; b is one target.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is wrong, or a file cannot be read.
    """
    options = FitOptions.checked(
        unit=check_unit(unit), loss=SquaredLoss(), ridge=check_number("ridge", ridge), seed=seed
    )
    with open_problem(
        A, b, w=w, ridge=ridge, unit=unit, client=client, check=_check_one_target
    ) as problem:
        fitted = fit(problem, options)
        result = fitted if isinstance(fitted, SolveResult) else fitted[0]
        parts = parts_at(problem, result.x)
        good = goodness_at(problem, result.x)
        (origin,) = problem.trials([np.zeros(problem.d)])
        beta = min(parts.alpha, math.inf if origin is None else origin.alpha)
        b_norm = problem.target_totals.b_norm
        R = max(parts.sigma_max, float(np.linalg.norm(result.x)), b_norm)
        bound = lipschitz_bound(beta, R, problem.n)
        error = float(np.abs(parts.hessian() - problem.evaluate(result.x).hessian).max())
        sketches = _sketches(problem, result.x, seed) if good.l > 0.0 else []
    certificate, weight = certificate_of(parts), weight_for(parts, 0.0)
    needed = [m for kind, m, found in sketches if kind == "leverage" and found <= SPECTRAL_ERROR]
    return Section(
        "Your A and B",
        f"n = {problem.n:,}, d = {problem.d}, unit {unit}. The regression is solved, and "
        "the guarantees are checked at the solution x̂.",
        _words(result, certificate, good, weight, parts, needed),
        [
            Claim(
                "The parts add up to the Hessian that the solver's fused read returns",
                Source.DERIVED,
                error <= ROUNDING * _norm(certificate),
                f"relative error {number(error / _norm(certificate))}",
            ),
            Claim(
                "The smallest eigenvalue is at least the bound of the certificate",
                Source.DERIVED,
                certificate.smallest - certificate.bound >= -SIGN * _norm(certificate),
                f"{number(certificate.smallest)} and {number(certificate.bound)}",
            ),
            Claim(
                "The Hessian at x̂ is guaranteed to be positive semidefinite by the given w",
                Source.REPLACED,
                certificate.guaranteed,
                f"bound {number(certificate.bound)}; w ≥ {number(weight)} in every row would "
                f"guarantee it, and the smallest given w is {number(math.sqrt(parts.weight.low))}",
                Kind.GUARANTEE,
            ),
            Claim(
                "The Hessian at x̂ is positive definite in fact",
                Source.PAPER,
                good.l > 0.0,
                f"smallest eigenvalue {number(good.l)}",
                Kind.GUARANTEE,
            ),
            Claim(
                "The start x0 = 0 is within the convergence theorem's radius, 0.1·l/M",
                Source.ASCRIBED,
                good.applies,
                f"distance {number(good.distance)}, radius {number(good.radius)}, with M as "
                "observed",
                Kind.GUARANTEE,
            ),
            Claim(
                "The start x0 = 0 is within the radius 0.1·l/M with M from the paper's bound",
                Source.ASCRIBED,
                good.distance <= 0.1 * good.l / bound,
                f"bound {number(bound)}, observed {number(good.M)}",
                Kind.GUARANTEE,
            ),
        ],
        [
            Table("Quantities at x̂", ("quantity", "value"), _facts(result, parts, good, beta, R)),
            *(
                [
                    Table(
                        "Spectral error ε₀ of a sketch at x̂",
                        ("rows m", *KINDS),
                        [
                            (m, *(found for _, size, found in sketches if size == m))
                            for m in dict.fromkeys(m for _, m, _ in sketches)
                        ],
                    )
                ]
                if sketches
                else []
            ),
        ],
    )


def _sketches(problem: Problem, x: np.ndarray, seed: int) -> list[tuple[str, int, float]]:
    """Return kind, rows and ε₀ of sketches that have fewer rows than A."""
    sizes = [multiple * problem.d for multiple in MULTIPLES]
    tried = [(kind, m) for m in sizes if m < problem.n for kind in KINDS]
    errors = sketch_errors_at(problem, x, tried, seed)
    return [(kind, m, error) for (kind, m), error in zip(tried, errors, strict=True)]


def _norm(certificate: PsdCertificate) -> float:
    return max(-certificate.smallest, certificate.largest)


def _check_one_target(data: Dataset) -> None:
    if data.targets is not None and data.targets > 1:
        raise ValueError(f"B has {data.targets} columns; give a file with one of them")


def _words(
    result: SolveResult,
    certificate: PsdCertificate,
    good: Goodness,
    weight: float,
    parts: HessianParts,
    needed: Sequence[int],
) -> list[str]:
    """Say in plain words which guarantees apply."""
    words = [] if result.success else [f"The solve did not converge: {result.message}"]
    least = math.sqrt(parts.weight.low)
    if certificate.guaranteed:
        words.append("The given w guarantees a positive semidefinite Hessian at x̂.")
    else:
        share = f", {number(weight / least)} times the smallest given w" if least else ""
        words.append(
            f"A positive semidefinite Hessian is not guaranteed: that requires w ≥ "
            f"{number(weight)} in every row{share}. Its smallest eigenvalue is in fact "
            f"{number(certificate.smallest)}."
        )
    if good.l <= 0.0:
        words.append("The Hessian at x̂ is not positive definite, so the theorem does not apply.")
    elif good.applies:
        words.append("The convergence theorem applies to the start x0 = 0.")
    else:
        words.append(
            f"The convergence theorem does not apply to x0 = 0: it covers starts within "
            f"{number(good.radius)} of x̂, and x0 is {number(good.distance / good.radius)} times "
            "that far away. The solve relied on its trust region."
        )
    if good.l > 0.0:
        words.append(
            f"Leverage sketches of {needed[0]:,} rows have the theorem's ε₀ ≤ {SPECTRAL_ERROR}."
            if needed
            else f"None of the leverage sketches tried has the theorem's ε₀ ≤ {SPECTRAL_ERROR}."
        )
    return words


def _facts(
    result: SolveResult, parts: HessianParts, good: Goodness, beta: float, R: float
) -> list[tuple[str, str | int | float]]:
    """Return the rows of the table of quantities."""
    eps = result.x_error_estimate
    predicted = predicted_iterations(eps, good.distance) if eps > 0.0 else math.nan
    return [
        ("status of the solve", result.status.name.lower().replace("_", " ")),
        ("L(x̂)", result.fun),
        ("‖x̂‖", float(np.linalg.norm(result.x))),
        ("error of x̂, estimated", eps),
        ("α at x̂", parts.alpha),
        ("β, the smaller of α at x̂ and at zero", beta),
        ("singular values of A, smallest", parts.sigma_min),
        ("singular values of A, largest", parts.sigma_max),
        ("R, the largest of ‖A‖, ‖x̂‖ and ‖b‖", R),
        ("l, smallest eigenvalue of the Hessian at x̂", good.l),
        ("M, Lipschitz constant observed near x̂", good.M),
        ("radius of the convergence theorem, 0.1·l/M", good.radius),
        ("‖x0 − x̂‖ from x0 = 0", good.distance),
        ("iterations by the theorem, if it applied", predicted),
        ("iterations on all rows", result.nit),
        ("rows read / n", result.data_passes),
    ]
