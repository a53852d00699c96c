"""Where each sum of a read stands in the arrays that hold them.

Every loss needs α = Σu, the sums of the penalty w and the slope of α.  Three scalars and two
vectors are the loss's own; it names them itself.
"""

from __future__ import annotations

__all__ = [
    "LARGEST_Z",
    "LEVERAGE",
    "LOSS_SCALARS",
    "LOSS_VECTORS",
    "N_SCALARS",
    "N_VECTORS",
    "PENALTY",
    "PENALTY_VECTOR",
    "SLOPE",
    "TOTAL",
]

# Scalars: Σu', those of the loss, Σw²z², the largest z and Στ.
TOTAL = 0
LOSS_SCALARS = (1, 2, 3)
PENALTY, LARGEST_Z, LEVERAGE, N_SCALARS = 4, 5, 6, 7

# Vectors: Aᵀv', those of the loss and Aᵀ(w²∘z).
SLOPE = 0
LOSS_VECTORS = (1, 2)
PENALTY_VECTOR, N_VECTORS = 3, 4
