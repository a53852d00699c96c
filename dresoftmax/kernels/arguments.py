"""What the kernels are called with: the rows of a block, what is asked of them, and the sums.

Numba takes a NamedTuple as it is.  Its fields have a fixed type each, so that a kernel is
compiled once for a kind of rows and a type of numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["EVERY_ROW", "NO_ROW", "SAMPLED", "CsrRows", "DenseRows", "Output", "Request"]

# How rows enter the Hessian.
NO_ROW, EVERY_ROW, SAMPLED = range(3)


class DenseRows(NamedTuple):
    """A dense block.

    Attributes
    ----------
    A : ndarray of shape (rows, d)
    b : ndarray of shape (k, rows)
    w2, weight : ndarray of shape (rows,) or (1,)
        See `blocks.base.Block`.
    """

    A: np.ndarray
    b: np.ndarray
    w2: np.ndarray
    weight: np.ndarray


class CsrRows(NamedTuple):
    """A sparse block: its A is `data`, `indices` and `indptr` of a CSR matrix."""

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    b: np.ndarray
    w2: np.ndarray
    weight: np.ndarray


class Request(NamedTuple):
    """What is asked of the rows.

    Attributes
    ----------
    points : ndarray of shape (K, d)
    targets : ndarray of shape (K,)
        Which line of b each point is compared with.
    log_alpha, kappa, penalty : ndarray of shape (K,)
        log α₀, κ₀ and the factor of w² at each point.
    family : (float, float, float)
        rising, falling and linear, see `units.Exponentials`.
    own : bool
        Whether the unit is a function that the kernel is given beside the request, see
        `unit_compiler`, in place of one of the family.
    loss : int
        Which of `losses.ROW_TERMS`.
    rule : int
        How rows enter the Hessian: NO_ROW, EVERY_ROW or SAMPLED.
    rate, leverage_rate : float
        For SAMPLED, π = min(1, rate + leverage_rate·τ).
    probes : ndarray of shape (s, d)
        Whose products with a row estimate ‖aᵀR‖².
    key : uint64
        Of the variates.
    """

    points: np.ndarray
    targets: np.ndarray
    log_alpha: np.ndarray
    kappa: np.ndarray
    penalty: np.ndarray
    family: tuple[float, float, float]
    own: bool
    loss: int
    rule: int
    rate: float
    leverage_rate: float
    probes: np.ndarray
    key: np.uint64


class Output(NamedTuple):
    """Where a kernel adds what it finds.

    Attributes
    ----------
    scalars : ndarray of shape (K, N_SCALARS)
    vectors : ndarray of shape (K, N_VECTORS, d)
        See `layout`.
    buffer : ndarray of shape (G, 2, capacity, d)
        Receives √(|D|/π)·a of the rows that enter the Hessian, by the sign of D, for each of
        G = K points, or K + 1 with the whitening.  G = 0 if `gram` takes all of them.
    filled : ndarray of shape (G, 2)
        Rows in each part of the buffer.
    gram : ndarray of shape (G, d, d) or (0, d, d)
        Whose upper triangles are added to here and now; if empty, rows go to the buffer.
    curvature : ndarray of shape (G, rows) or (G, 0)
        Receives D of each row, if it is wanted.
    """

    scalars: np.ndarray
    vectors: np.ndarray
    buffer: np.ndarray
    filled: np.ndarray
    gram: np.ndarray
    curvature: np.ndarray
