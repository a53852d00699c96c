"""The problems that are measured: real attention, and synthetic data of known shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dresoftmax.datasets import load_attention


@dataclass(frozen=True)
class Problem:
    """Data, and the unit that they are fitted with."""

    name: str
    A: np.ndarray
    b: np.ndarray
    unit: str


def attention(unit: str) -> Iterator[Problem]:
    """Return the problem of each query of the attention head in the package."""
    head = load_attention()
    for query in range(len(head.queries)):
        yield Problem(f"attention-{query}", *head.problem(query), unit)


def synthetic(n: int, d: int, cond: float, noise: float, dtype: type = np.float64) -> Problem:
    """Return centred Gaussian rows with a given condition number, and a noisy target.

    b is f(x) for an x with Var(Ax) = 1, each entry times 1 + noise·N(0, 1), made
    positive and normalised.
    """
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, d)) @ np.diag(np.geomspace(1.0, 1.0 / cond, d))
    A = A @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    A -= A.mean(axis=0)
    x = np.linalg.lstsq(A[: 20 * d], rng.standard_normal(20 * d), rcond=None)[0]
    x /= np.std(A @ x)
    z = A @ x
    b = np.exp(z) + z
    b = np.abs(b * (1.0 + noise * rng.standard_normal(n)))
    name = f"synthetic-n{n}-d{d}-cond{cond:g}-noise{noise:g}-{np.dtype(dtype).name}"
    return Problem(name, A.astype(dtype), b / b.sum(), "exp+linear")
