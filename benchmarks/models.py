"""The models that the open questions compare: each fits a distribution b over the rows of A.

A model gives shares for any rows, so that rows that it has not seen can judge it.

    uniform         1/n
    linear          least squares of b on A and a constant
    log-linear      least squares of log b on A and a constant, over rows with b > 0; then softmax
    likelihood      softmax(Ax) of the largest likelihood Σ bᵢ log fᵢ: multinomial logit
    exp             softmax(Ax) of least squares, by dresoftmax
    exp, kept       the same over rows with b > 0
    exp+linear      the unified unit, by dresoftmax; also other units, and the rescaled loss

The first four are what one would do without this package.  Least squares are solved by their
normal equations, which take one read of A, and the likelihood by Newton's method, which
takes one read for each step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la

import dresoftmax
from dresoftmax.model.units import UNITS

STEPS = 60


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model: the shares that it gives to rows, and what fitting it took."""

    shares: Callable[[np.ndarray], np.ndarray]
    x: np.ndarray
    reads: float
    seconds: float
    status: str = ""


def uniform(A: np.ndarray, b: np.ndarray) -> Fit:
    """Give every row the same share."""
    return Fit(lambda A: np.full(len(A), 1.0 / len(A)), np.zeros(A.shape[1]), 0.0, 0.0)


def linear(A: np.ndarray, b: np.ndarray) -> Fit:
    """Fit b itself; shares of other rows are scaled to sum to one, and may be negative."""
    began = time.perf_counter()
    x, constant = least_squares(A, b)
    seconds = time.perf_counter() - began

    def shares(A: np.ndarray) -> np.ndarray:
        f = A @ x + constant
        return f / f.sum()

    return Fit(shares, x, 1.0, seconds)


def log_linear(A: np.ndarray, b: np.ndarray, *, weighted: bool = False) -> Fit:
    """Fit log b over the rows with b > 0.

    With `weighted` row i has weight bᵢ, the inverse of the variance of log bᵢ if b
    was counted.
    """
    began = time.perf_counter()
    kept = b > 0.0
    if not kept.all():
        A, b = A[kept], b[kept]
    x, _ = least_squares(A, np.log(b), b if weighted else None)
    return Fit(lambda A: softmax(A @ x), x, 1.0, time.perf_counter() - began)


def likelihood(A: np.ndarray, b: np.ndarray) -> Fit:
    """Minimise log Σ exp(Ax) − bᵀAx, which is convex, by Newton's method with halved steps."""
    began = time.perf_counter()
    x, step, before = np.zeros(A.shape[1]), np.zeros(A.shape[1]), math.inf
    target = A.T @ b
    reads = 0
    while reads < STEPS:
        reads += 1
        z = A @ x
        top = z.max()
        value = top + math.log(np.exp(z - top).sum()) - target @ x
        if value > before + 1e-14 * abs(before):
            step = 0.5 * step
            x = x - step
            continue
        before, f = value, softmax(z)
        mean = A.T @ f
        gradient = mean - target
        hessian = A.T @ (A * f[:, None]) - np.outer(mean, mean)
        step = la.lstsq(hessian, -gradient)[0]
        if -(gradient @ step) <= 1e-20:
            break
        x = x + step
    return Fit(lambda A: softmax(A @ x), x, float(reads), time.perf_counter() - began)


def dresoftmax_fit(
    A: np.ndarray,
    b: np.ndarray,
    *,
    unit: str = "exp",
    centred: bool = False,
    constant: bool = False,
    rescaled: bool = False,
) -> Fit:
    """Fit a unit, to columns that may be centred first and have a constant added."""
    began = time.perf_counter()
    centre = A.mean(axis=0) if centred else np.zeros(A.shape[1])

    def columns(A: np.ndarray) -> np.ndarray:
        A = A - centre if centred else A
        return np.column_stack([A, np.ones(len(A))]) if constant else A

    result = dresoftmax.solve(columns(A), b, unit=unit, rescaled=rescaled, seed=0)
    seconds = time.perf_counter() - began

    def shares(A: np.ndarray) -> np.ndarray:
        z = columns(A) @ result.x
        u = UNITS[unit].scaled(z, max(float(np.abs(z).max()), 0.0))[0]
        return u / u.sum()

    return Fit(shares, result.x, result.data_passes, seconds, result.status.name)


def kept_only(A: np.ndarray, b: np.ndarray) -> Fit:
    """Fit softmax by dresoftmax, only to the rows with b > 0."""
    return dresoftmax_fit(A[b > 0.0], b[b > 0.0])


def least_squares(
    A: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Return the coefficients and the constant of (weighted) least squares of y on A."""
    weighted = A if weights is None else A * weights[:, None]
    total = len(A) if weights is None else weights.sum()
    mean = weighted.sum(axis=0) / total
    y_mean = y.mean() if weights is None else (weights @ y) / total
    gram = weighted.T @ A - total * np.outer(mean, mean)
    x = la.lstsq(gram, weighted.T @ (y - y_mean))[0]
    return x, float(y_mean - mean @ x)


def softmax(z: np.ndarray) -> np.ndarray:
    f = np.exp(z - z.max())
    return f / f.sum()
