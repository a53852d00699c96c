"""The arguments that all questions of theory share: data, a point, and where they are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.inputs.arguments import Dataset
from dresoftmax.inputs.dataframes import is_a
from dresoftmax.problem import Problem, open_problem

if TYPE_CHECKING:
    from distributed import Client

    from dresoftmax.model.units import Unit

__all__ = ["check_point", "open_at"]


@contextmanager
def open_at(
    A: Any,
    b: Any,
    w: Any,
    points: Mapping[str, Any],
    ridge: float,
    unit: str | Unit,
    client: Client | None,
    engine: str,
    persist: bool | None,
) -> Iterator[tuple[Problem, list[np.ndarray]]]:
    """Hold the rows of a problem of one target, and give it with the points, all checked first.

    `points` are arguments of that kind by their names.
    """
    found: list[np.ndarray] = []

    def check(data: Dataset) -> None:
        if data.targets is not None and data.targets > 1:
            raise ValueError(
                f"b has {data.targets} columns; pass one of them, b[:, j], for the targets have "
                "a Hessian each"
            )
        found.extend(check_point(name, x, data.d) for name, x in points.items())

    open_engine = partial(open_problem, ridge=ridge, unit=unit, client=client, engine=engine)
    with open_engine(A, b, w=w, persist=persist, check=check) as problem:
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
            f"{name} has shape {x.shape}, but A has {d} columns; pass one value for each"
        )
    if not np.isfinite(x).all():
        raise ValueError(f"{name} contains NaN or infinity; pass a point that is finite")
    return x
