"""Coordinates in which a step is as long as the change of z = Ax that it makes.

Lengths are measured in the norm ‖Δ‖_M with M = AᵀA/n, that is, as the root mean square change
of z over the rows: scale-free, and the same whatever basis the columns of A are written in.
`Whitening` whitens M once; all else happens in its coordinates y, Δ = basis·y, in which
‖Δ‖_M = ‖y‖.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la

__all__ = ["RANK_TOLERANCE", "Whitening"]

# Eigenvalues below this multiple of d times the largest are rounding errors.
RANK_TOLERANCE = 1e-14


@dataclass(frozen=True)
class Whitening:
    """Coordinates in which AᵀA/n is the identity.

    Attributes
    ----------
    basis : ndarray of shape (d, rank)
        Its columns span the row space of A, and basisᵀ M basis = I.
    row_norm : float
        Root mean square norm of the rows of A.
    column_norm : ndarray of shape (d,)
        Root mean square entry of each column, 1 if the column is zero.
    """

    basis: np.ndarray
    row_norm: float
    column_norm: np.ndarray

    @classmethod
    def from_gram(cls, M: np.ndarray) -> Whitening:
        """Whiten the positive semidefinite matrix `M`."""
        # Scaling the columns first makes the rank independent of their units.
        scale = np.sqrt(np.maximum(np.diag(M), 0.0))
        live = np.flatnonzero(scale > 0.0)
        scale = scale[live]
        values, vectors = la.eigh(M[np.ix_(live, live)] / np.outer(scale, scale))
        kept = values > RANK_TOLERANCE * len(M) * values.max(initial=0.0)
        basis = np.zeros((len(M), int(kept.sum())))
        basis[live] = vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None]
        if basis.shape[1] == len(M):
            # Turned so that it is symmetric up to the scaling, the basis does not depend
            # on the eigenvectors' signs, which rounding decides, and nor does a sketch.
            basis = basis @ vectors.T
        else:
            row_space = np.zeros_like(basis)
            row_space[live] = vectors[:, kept] * scale[:, None]
            basis = _project(row_space, basis)
        column_norm = np.ones(len(M))
        column_norm[live] = scale
        return cls(basis, math.sqrt(float(np.trace(M))), column_norm)

    @property
    def rank(self) -> int:
        """Numerical rank of A."""
        return self.basis.shape[1]

    def project(self, x: np.ndarray) -> np.ndarray:
        """Return the point of least norm with the same Ax."""
        return x if self.rank == len(x) else _project(self.basis, x)


def _project(span: np.ndarray, x: np.ndarray) -> np.ndarray:
    Q = la.qr(span, mode="economic")[0]
    return Q @ (Q.T @ x)
