"""The parts of the Hessian as dense n×n matrices, stated once more in plain NumPy."""

from __future__ import annotations

import numpy as np

# u, u' and u''.
UNITS = {
    "exp+linear": (lambda z: np.exp(z) + z, lambda z: np.exp(z) + 1.0, np.exp),
    "exp": (np.exp, np.exp, np.exp),
    "cosh": (np.cosh, np.sinh, np.cosh),
    "sinh": (np.sinh, np.cosh, np.sinh),
    "softplus": (
        lambda z: np.logaddexp(0.0, z),
        lambda z: 1.0 / (1.0 + np.exp(-z)),
        lambda z: np.exp(-z) / (1.0 + np.exp(-z)) ** 2,
    ),
}


def dense_parts(A, b, x, unit="exp+linear", w=None):
    """Return B_mat, B_rank, B_diag and W² at x, each n×n, by the names of `HessianParts`."""
    z = A @ x
    u, v, e = (function(z) for function in UNITS[unit])
    alpha = u.sum()
    f = u / alpha
    c = f - b
    kappa = f @ c
    J = (np.diag(v) - np.outer(f, v)) / alpha
    g = v * (c - kappa) / alpha
    return {
        "B_mat": J.T @ J,
        "B_rank": -(np.outer(g, v) + np.outer(v, g)) / alpha,
        "B_diag": np.diag(e * (c - kappa) / alpha),
        "weight": np.diag(np.broadcast_to(0.0 if w is None else np.square(w), len(b))),
    }
