"""The arguments that the functions of `theory` share: data, points and options of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from dresoftmax.inputs.dataframes import is_a
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.problem import Problem, ProblemOptions, open_problem

__all__ = ["check_point", "open_at"]


@contextmanager
def open_at(
    A: Any, b: Any, w: Any, points: Mapping[str, Any], options: ProblemOptions
) -> Iterator[tuple[Problem, list[np.ndarray]]]:
    """Open a problem with one target, and yield it with the points; all are checked first.

    `points` maps the name of each argument that is a point to its value.
    """
    unknown = sorted(set(options) - set(ProblemOptions.__annotations__))
    if unknown:
        raise TypeError(
            f"{unknown[0]!r} is not an option here; the options are "
            f"{', '.join(ProblemOptions.__annotations__)}"
        )
    found: list[np.ndarray] = []

    def check(data: Dataset) -> None:
        if data.targets is not None and data.targets > 1:
            raise ValueError(
                f"b has {data.targets} columns; pass one of them, b[:, j]: each target has "
                "its own Hessian"
            )
        found.extend(check_point(name, x, data.d) for name, x in points.items())

    with open_problem(A, b, w=w, check=check, **options) as problem:
        yield problem, found


def check_point(name: str, x: Any, d: int) -> np.ndarray:
    """Return x as a finite float64 vector of length d, or raise."""
    if is_a(x, "dask", "Array"):
        raise TypeError(f"{name} is a dask array; pass a NumPy array of length d (use .compute())")
    try:
        x = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {x!r}; pass a vector of {d} real numbers") from None
    if x.shape != (d,):
        raise ValueError(
            f"{name} has shape {x.shape}, but A has {d} columns; pass one value per column"
        )
    if not np.isfinite(x).all():
        raise ValueError(f"{name} contains NaN or infinity; pass a finite point")
    return x
