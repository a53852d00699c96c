"""Whether a result belongs to the data that it comes with, and what it remembers of its solve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.inputs.arguments import is_scalar
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.model.evaluation import Evaluation
from dresoftmax.result import JointResult, SolveResult

if TYPE_CHECKING:
    from dresoftmax.model.units import Unit

__all__ = ["check_belongs", "check_result", "check_shapes", "fits_of", "remembered"]

# Relative differences from the solve that rounding explains, and that its predicted last step
# explains, as a multiple of the decrement.
ROUNDING, FORESEEN = 1e-6, 10.0


def check_result(result: Any) -> None:
    """Raise if `result` is not a result of `solve`, or its loss has no covariance."""
    if not isinstance(result, SolveResult | JointResult):
        raise TypeError(
            f"result is of type {type(result).__name__}; pass what dresoftmax.solve returned"
        )
    loss = fits_of(result)[0].loss
    if loss != "squared":
        raise ValueError(
            f"result is that of the {loss} loss, which has no covariance; solve without {loss}=True"
        )


def remembered(
    result: SolveResult | JointResult, w: Any, ridge: float | None, unit: str | Unit | None
) -> dict[str, Any]:
    """Return w, ridge and unit of the solve, or raise if others are given."""
    first = fits_of(result)[0]
    for name, given in (("ridge", ridge), ("unit", unit)):
        known = getattr(first, name)
        if given is not None and given != known:
            raise ValueError(
                f"{name} is {given!r}, but result is of {known!r}; leave {name} out, or solve "
                "with it"
            )
    if isinstance(first.w, float) and w is not None and is_scalar(w) and w != first.w:
        raise ValueError(f"w is {w!r}, but result is of {first.w!r}; leave w out, or solve with it")
    if w is None and first.w == "rows":
        raise ValueError("result was solved with a weight w for each row; pass the same w")
    return {"w": first.w if w is None else w, "ridge": first.ridge, "unit": first.unit}


def fits_of(result: SolveResult | JointResult) -> list[SolveResult]:
    """Return the results of all targets."""
    return [result] if isinstance(result, SolveResult) else list(result)


def check_shapes(result: SolveResult | JointResult, data: Dataset) -> None:
    """Raise if a result has other targets or columns than the data, or no unique coefficients."""
    fits = fits_of(result)
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
    if fits[0].rank < data.d and not fits[0].ridge:
        raise ValueError(
            f"A has rank {fits[0].rank} and {data.d} columns, so that single coefficients are "
            "not determined; leave columns out, or solve with ridge"
        )


def check_belongs(fit: SolveResult, evaluation: Evaluation, b_norm: float) -> None:
    """Raise if α or the gradient at x differs from the one that the solve found."""
    slack = ROUNDING + (FORESEEN * fit.decrement / b_norm if fit.success else 0.0)
    # |gⱼ| ≤ √(gᵀH⁻¹g)·√Hⱼⱼ, and √(gᵀH⁻¹g) is of the order of ‖b‖ if x is far from a minimum.
    scale = b_norm * np.sqrt(np.abs(np.diag(evaluation.hessian)))
    same = (
        np.isclose(evaluation.alpha, fit.alpha, rtol=slack, atol=0.0)
        and (np.abs(evaluation.gradient - fit.jac) <= slack * scale).all()
    )
    if not same:
        raise ValueError(
            "these are not the data of the result: at its x alpha is "
            f"{evaluation.alpha:.9g}, and the solve had {fit.alpha:.9g}; the norm of the gradient "
            f"is {np.linalg.norm(evaluation.gradient):.3g}, and was {np.linalg.norm(fit.jac):.3g}; "
            "pass A, b and w as they were passed to solve"
        )
