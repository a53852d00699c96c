"""Sparse rows: a canonical CSR array of SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from dresoftmax.blocks.base import Block, storage_dtype, usual
from dresoftmax.kernels.arguments import CsrRows, Output, Request

__all__ = ["CsrBlock", "as_scipy"]

# Rows that are copied at a time.
ROWS = 1 << 14


@dataclass(frozen=True, slots=True)
class CsrBlock(Block):
    """A block whose A is a csr_array of shape (rows, d)."""

    adds_sketch: ClassVar[bool] = True

    @classmethod
    def convert(cls, A: Any) -> sp.csr_array | None:
        """Return rows of A in CSR with duplicates summed, in the float type that holds them."""
        if not (sp.issparse(A) or hasattr(A, "to_scipy_sparse")):
            return None
        dtype = storage_dtype(A.dtype)
        A = sp.csr_array(as_scipy(A), dtype=dtype)
        if not A.has_canonical_format:
            A = A.copy()  # duplicates are summed in place, and the input must not change
            A.sum_duplicates()
        A.data, A.indices, A.indptr = map(usual, (A.data, A.indices, A.indptr))
        return A

    @classmethod
    def stack(cls, blocks: Sequence[Block]) -> sp.csr_array:
        """Return the rows of several blocks of this kind."""
        return sp.vstack([block.A for block in blocks], format="csr")

    @classmethod
    def adds_exact(cls, d: int) -> bool:
        """Return True, since sparse rows have few products."""
        return True

    @property
    def entries(self) -> int:
        """Stored entries of A."""
        return int(self.A.nnz)

    @property
    def A_nbytes(self) -> int:
        """Bytes that A occupies."""
        return sum(part.nbytes for part in (self.A.data, self.A.indices, self.A.indptr))

    def row(self, i: int) -> np.ndarray:
        """Return row `i` of A, dense."""
        return self.A[[i]].toarray().ravel()

    def dense(self) -> np.ndarray:
        """Return A as a dense array."""
        return self.A.toarray()

    def add_rows(
        self, start: int, stop: int, request: Request, evaluate: Any, output: Output
    ) -> tuple[int, int, int]:
        """Add rows to the row sums of a read (see `kernels.csr`)."""
        # Numba takes half a second to import, and is not needed to make blocks.
        from dresoftmax.kernels.csr import csr_rows

        A = self.A
        rows = CsrRows(A.data, A.indices, A.indptr, self.b, self.w2, self.weight)
        return csr_rows(rows, start, stop, request, evaluate, output)

    def rmatmul(self, Y: np.ndarray) -> np.ndarray:
        """Return AᵀY."""
        return self.A.T @ Y

    def combine(self, S: sp.sparray) -> np.ndarray:
        """Return SA as a dense array."""
        return (S @ self.A).toarray()

    def gram(self, D: np.ndarray) -> np.ndarray:
        """Return Aᵀdiag(D)A."""
        A = self.A.astype(np.float64, copy=False)
        gram = (A.T @ A.multiply(D[:, None])).toarray()
        return 0.5 * (gram + gram.T)

    def squares(self) -> np.ndarray:
        """Return the diagonal of Aᵀdiag(weight)A."""
        weight = np.broadcast_to(self.weight, self.rows)
        total = np.zeros(self.A.shape[1])
        for start in range(0, self.rows, ROWS):
            rows = slice(start, start + ROWS)
            total += weight[rows] @ self.A[rows].astype(np.float64).power(2)
        return total


def as_scipy(A: Any) -> Any:
    """Return an array of the package `sparse` as a SciPy array, and others as they are."""
    if not hasattr(A, "to_scipy_sparse"):
        return A
    if A.fill_value != 0:
        raise ValueError(
            f"A is sparse with the fill value {A.fill_value}, and only zero is supported; "
            "make it dense with A.todense()"
        )
    return A.to_scipy_sparse()
