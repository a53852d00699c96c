"""The pointwise function u that the regression normalises, and its two derivatives.

The units that come with the package are of one family,

    u(z) = rising·exp(z) + falling·exp(−z) + linear·z,

Whatever is asked of a unit is asked in units of a reference α₀, u/α₀, u'/α₀ and u''/α₀,
so that exp(z) may be larger than any float.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["UNITS", "Exponentials"]


@dataclass(frozen=True, slots=True)
class Exponentials:
    """u(z) = rising·exp(z) + falling·exp(−z) + linear·z."""

    name: str
    rising: float
    falling: float = 0.0
    linear: float = 0.0

    def scaled(self, z: np.ndarray, log_alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return u(z), u'(z) and u''(z), each divided by α₀."""
        up = self.rising * np.exp(z - log_alpha)
        down = self.falling * np.exp(-z - log_alpha) if self.falling else 0.0
        slope = self.linear * np.exp(-log_alpha) if self.linear else 0.0
        return up + down + slope * z, up - down + slope, up + down


UNITS = {
    "exp+linear": Exponentials("exp+linear", 1.0, linear=1.0),
    "exp": Exponentials("exp", 1.0),
}
