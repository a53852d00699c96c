"""The Hessian of one point at another: sketches averaged, exact ones carried.

Each read draws the rows of a sketch anew.  Near the solution G hardly changes from
point to point, and the mean of k sketches of it has 1/√k of the error of one: what
is a linear convergence with a fixed sketch size becomes a faster one.

With a sample at hand even less changes: G − G_S, what all rows differ in from the
sample.  Carried by that, one exact Hessian serves all points within a short way.

Matrices and lengths only: nothing is read here.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["HessianReuse", "SketchAverage"]

# After a longer step (RMS change of z) what was known of G is of another G.
CLOSE = 0.02
# A Hessian is carried only while each decrement is at most this part of the last.
FAST = 0.1


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


class HessianReuse:
    """G of all rows, carried from where it was read by the sample's.

    Parameters
    ----------
    use : {"sketched", "exact", "carried"}
        Whether G is a sketch at each point, to be averaged, or exact; and then
        whether it is read at every point, or where it has to be.

    Attributes
    ----------
    way : float
        Length of all steps since G was read.
    """

    def __init__(self, use: str) -> None:
        self.way = 0.0
        self._carries = use == "carried"
        self._average = SketchAverage() if use == "sketched" else None
        self._rest = np.empty((0, 0))
        self._decrement = math.inf

    def read(self, gram: np.ndarray, sample: np.ndarray, moved: float) -> np.ndarray:
        """Take note of G and the sample's at one point, and return what is best of G."""
        rest = gram - sample
        if self._average is not None:
            rest = self._average.add(rest, moved)
        self._rest, self.way = rest, 0.0
        return rest + sample

    def carry(self, sample: np.ndarray, moved: float) -> np.ndarray:
        """Return G at a point where it was not read, but the sample's was."""
        self.way += moved
        return self._rest + sample

    def lasts(self, step: float, decrement: float) -> bool:
        """Whether G need not be read after a step of this length, from this decrement."""
        fast = decrement <= FAST * self._decrement
        self._decrement = decrement
        return self._carries and fast and self.way + step <= CLOSE
