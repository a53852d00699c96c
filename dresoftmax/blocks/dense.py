"""Dense rows: a C-contiguous NumPy array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from dresoftmax.blocks.base import Block, storage_dtype, usual
from dresoftmax.kernels.arguments import DenseRows, Output, Request

__all__ = ["DenseBlock", "is_native"]

# Up to this number of columns, an exact Hessian is summed in registers, else by BLAS.
FEW_COLUMNS = 104


@dataclass(frozen=True, slots=True)
class DenseBlock(Block):
    """A block whose A is an ndarray of shape (rows, d)."""

    adds_sketch: ClassVar[bool] = False

    @classmethod
    def convert(cls, A: Any) -> np.ndarray | None:
        """Return rows of A in C order, in the float type that holds them."""
        if not isinstance(A, np.ndarray):
            return None
        return usual(np.require(A, storage_dtype(A.dtype), "C"))

    @classmethod
    def stack(cls, blocks: Sequence[Block]) -> np.ndarray:
        """Return the rows of several blocks, of any kind."""
        return np.concatenate([block.dense() for block in blocks])

    @classmethod
    def adds_exact(cls, d: int) -> bool:
        """Whether d is at most `FEW_COLUMNS`."""
        return d <= FEW_COLUMNS

    @property
    def entries(self) -> int:
        """Entries of A."""
        return int(self.A.size)

    @property
    def A_nbytes(self) -> int:
        """Bytes that A occupies."""
        return int(self.A.nbytes)

    def row(self, i: int) -> np.ndarray:
        """Return row `i` of A."""
        return self.A[i]

    def dense(self) -> np.ndarray:
        """Return A."""
        return self.A

    def add_rows(
        self, start: int, stop: int, request: Request, evaluate: Any, output: Output
    ) -> tuple[int, int, int]:
        """Add rows to the row sums of a read (see `kernels.dense`)."""
        # Numba takes half a second to import, and is not needed to make blocks.
        from dresoftmax.kernels.dense import dense_rows

        rows = DenseRows(self.A, self.b, self.w2, self.weight)
        return dense_rows(rows, start, stop, request, evaluate, output)

    def rmatmul(self, Y: np.ndarray) -> np.ndarray:
        """Return AᵀY."""
        return self.A.T @ Y

    def combine(self, S: sp.sparray) -> np.ndarray:
        """Return SA."""
        return S @ self.A

    def gram(self, D: np.ndarray) -> np.ndarray:
        """Return Aᵀdiag(D)A."""
        A = self.A.astype(np.float64, copy=False)
        gram = A.T @ (D[:, None] * A)
        return 0.5 * (gram + gram.T)

    def squares(self) -> np.ndarray:
        """Return the diagonal of Aᵀdiag(weight)A."""
        weight = np.broadcast_to(self.weight, self.rows)
        return np.einsum("i,ij,ij->j", weight, self.A, self.A)


def is_native(A: np.ndarray) -> bool:
    """Whether the kernels can read this array without a copy."""
    return bool(A.dtype == storage_dtype(A.dtype) and A.flags.c_contiguous and A.flags.aligned)
