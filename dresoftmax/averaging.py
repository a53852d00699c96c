"""Sketches of the Hessian, averaged over points that lie close together.

Each read draws its rows anew.  Near the solution G hardly changes from point to
point, and the mean of k sketches of it has 1/√k of the error of one: what is a
linear convergence with a fixed sketch size becomes a faster one.
"""

from __future__ import annotations

import numpy as np

__all__ = ["SketchAverage"]

# After a longer step (RMS change of z) the sketches so far are of another Hessian.
CLOSE = 0.02


class SketchAverage:
    """The mean of matrices sketched at points since the last long step."""

    def __init__(self) -> None:
        self._mean = np.empty((0, 0))
        self._count = 0

    def add(self, gram: np.ndarray, moved: float) -> np.ndarray:
        """Return the mean of `gram` and those before.

        `moved` is the length of the step that led to its point.
        """
        self._count = 1 if moved > CLOSE else self._count + 1
        self._mean = gram if self._count == 1 else self._mean + (gram - self._mean) / self._count
        return self._mean
