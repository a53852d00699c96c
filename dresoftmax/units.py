"""The pointwise function u that the regression normalises, and its derivatives.

Every unit here is of the family u(z) = exp(z) + ℓ·z, so that

    u = exp(z) + ℓz        v = u' = exp(z) + ℓ        e = u'' = exp(z)

with ℓ = 1 for the paper's unified unit and ℓ = 0 for softmax regression.  The
kernels take ℓ and nothing else, which keeps one fused loop for both.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNITS", "Unit"]


@dataclass(frozen=True, slots=True)
class Unit:
    """u(z) = exp(z) + linear * z."""

    name: str
    linear: float


UNITS = {
    "exp+linear": Unit("exp+linear", 1.0),
    "exp": Unit("exp", 0.0),
}
