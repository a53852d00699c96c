"""The parts of the Hessian, measured at points of a problem with a small A.

Only this module forms the n×n matrices, from their formulas.  The parts are compared with
them, with the Hessian that the solver reads, and with differences of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg as la

from dresoftmax.model.units import UNITS
from dresoftmax.problem import open_problem
from dresoftmax.theory import HessianParts
from dresoftmax.theory.hessian_parts import parts_at
from dresoftmax.theory.psd import certificate_of, weight_for
from dresoftmax.verify.problems import Synthetic, directions

__all__ = ["GOAL", "PARTS", "Case", "cases_of"]

PARTS = ("B_mat", "B_rank", "B_diag", "weight")
# The l that a weight has to guarantee, relative to the norm.
GOAL = 0.01


@dataclass(frozen=True, slots=True)
class Case:
    """The measurements at one point of one problem.

    Attributes
    ----------
    unit, distance, weight
        The settings of the grid.
    read_error, loss_error : float
        Error of the sum of the parts against the Hessian of a read, and against differences of
        the loss; relative to the largest entry.
    dense_error : float
        Error of a part's products and images against those of the n×n matrix, relative to the
        part's bounds times the size of y and A.
    overstepped : float
        How far an eigenvalue of a part lies outside its bounds; 0 if none does.
    slack : tuple of float
        For each part, the width of its bounds divided by the range of its eigenvalues.
    smallest, norm, bound : float
        Smallest eigenvalue of ∇²L, largest absolute one, derived lower bound of the smallest.
    derived, needed : float
        The w derived for ∇²L ⪰ 0, and the least w that achieves it, in units of ‖b‖.
    left, left_above : float
        Smallest eigenvalue with the w derived for ∇²L ⪰ 0, and its excess over l with the w
        derived for ∇²L ⪰ l·I; relative to the norm.
    """

    unit: str
    distance: float
    weight: float
    read_error: float
    loss_error: float
    dense_error: float
    overstepped: float
    slack: tuple[float, ...]
    smallest: float
    norm: float
    bound: float
    derived: float
    needed: float
    left: float
    left_above: float

    @property
    def sign(self) -> float:
        """The smallest eigenvalue relative to the norm, in [−1, 1]."""
        return self.smallest / self.norm


def cases_of(
    data: Synthetic, weight: float, distances: Sequence[float], rng: np.random.Generator
) -> list[Case]:
    """Return the cases at given distances from the point that b was computed at."""
    size = float(la.norm(data.b))
    data = replace(data, w=weight * size)
    metric = data.A.T @ data.A / len(data.b)
    found = []
    with open_problem(data.A, data.b, w=data.w, unit=data.unit) as problem:
        for distance, u in zip(
            distances, directions(len(data.x), len(distances), rng), strict=True
        ):
            x = data.x + distance * u / math.sqrt(u @ metric @ u)
            parts = parts_at(problem, x)
            found.append(_case(data, weight, distance, parts, problem.evaluate(x).hessian, size))
    return found


def _case(
    data: Synthetic, weight: float, distance: float, parts: HessianParts, read: np.ndarray,
    size: float,
) -> Case:  # fmt: skip
    A, n = data.A, len(data.b)
    H, gram = parts.hessian(), A.T @ A
    y = np.cos(np.arange(n))
    dense_error, overstepped, slack = 0.0, 0.0, []
    for name, B in zip(PARTS, _dense_parts(data, parts.x), strict=True):
        part = getattr(parts, name)
        values = la.eigvalsh(B)
        scale = max(abs(part.low), abs(part.high)) or 1.0
        # The terms of a part may cancel, so errors are relative to the size of its bounds.
        dense_error = max(
            dense_error,
            float(np.abs(part @ y - B @ y).max() / (scale * la.norm(y))),
            float(np.abs(part.image - A.T @ B @ A).max() / (scale * parts.sigma_max**2)),
        )
        outside = max(part.low - values[0], values[-1] - part.high, 0.0)
        overstepped = max(overstepped, float(outside) / scale)
        width = float(values[-1] - values[0])
        slack.append((part.high - part.low) / width if width > 0.0 else math.nan)
    certificate = certificate_of(parts)
    norm = max(-certificate.smallest, certificate.largest)
    derived, above = weight_for(parts, 0.0), weight_for(parts, GOAL * norm)
    # The least w² with H + w²AᵀA ⪰ 0 is an eigenvalue of H relative to AᵀA.
    least = la.eigh(H, gram, eigvals_only=True, subset_by_index=(0, 0))[0]
    return Case(
        unit=data.unit,
        distance=distance,
        weight=weight,
        read_error=_error(H, read),
        loss_error=_error(H, data.hessian(parts.x)),
        dense_error=dense_error,
        overstepped=overstepped,
        slack=tuple(slack),
        smallest=certificate.smallest,
        norm=norm,
        bound=certificate.bound,
        derived=derived / size,
        needed=math.sqrt(max(0.0, -float(least))) / size,
        left=float(la.eigvalsh(H + derived**2 * gram)[0]) / norm,
        left_above=float(la.eigvalsh(H + above**2 * gram)[0]) / norm - GOAL,
    )


def _dense_parts(data: Synthetic, x: np.ndarray) -> list[np.ndarray]:
    """Return B_mat, B_rank, B_diag and W² as n×n matrices, by their formulas."""
    u, v, e = UNITS[data.unit].scaled(data.A @ x, 0.0)
    alpha = u.sum()
    f = u / alpha
    c = f - data.b
    J = (np.diag(v) - np.outer(f, v)) / alpha
    g = v * (c - f @ c) / alpha
    rank = np.outer(g, v) / alpha
    weight = data.w**2 * np.eye(len(u))
    return [J.T @ J, -rank - rank.T, np.diag(e * (c - f @ c) / alpha), weight]


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    scale = float(np.abs(expected).max())
    return float(np.abs(found - expected).max()) / (scale or 1.0)
