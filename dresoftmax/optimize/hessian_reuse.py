"""The Hessian of one point at another: sketches averaged, exact ones carried on.

Each read draws the rows of a sketch anew.  Near the solution G hardly changes from
point to point, and the mean of k sketches of it has 1/√k of the error of one: what
is a linear convergence with a fixed sketch size becomes a faster one.

If there is a sample, the difference G − G_S between all rows and the sample changes even
less.  Corrected by it, the sample's G serves all points near one exact Hessian.

Matrices and lengths only: nothing is read here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = ["HessianReuse", "SketchAverage"]

# After a longer step (RMS change of z) what was known of G is of another G.
CLOSE = 0.02
# A Hessian is carried on only while each decrement is at most this part of the last.
FAST = 0.1


@dataclass(frozen=True, slots=True)
class SketchAverage:
    """The mean of matrices sketched at points since the last long step."""

    mean: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    count: int = 0

    def add(self, gram: np.ndarray, moved: float) -> SketchAverage:
        """Return the mean of `gram` and those before.

        `moved` is the length of the step that led to its point.
        """
        if self.count == 0 or moved > CLOSE:
            return SketchAverage(gram, 1)
        count = self.count + 1
        return SketchAverage(self.mean + (gram - self.mean) / count, count)


@dataclass(frozen=True, slots=True)
class HessianReuse:
    """What is known of G − G_S, and from how near.

    Attributes
    ----------
    use : {"sketched", "exact", "carried"}
        Whether G is a sketch at each point, to be averaged, or exact; and then
        whether it is read at every point, or only if it has to be.
    rest : SketchAverage
        G − G_S as it was last read, or its mean if it is sketched.
    way : float
        Length of all steps since G was read.
    decrement : float
        That from which the last step was made.
    """

    use: str
    rest: SketchAverage = field(default_factory=SketchAverage)
    way: float = 0.0
    decrement: float = math.inf

    def gram(self, sample: np.ndarray) -> np.ndarray:
        """Return G at a point, from the sample's."""
        return self.rest.mean + sample

    def read(self, gram: np.ndarray, sample: np.ndarray, moved: float) -> HessianReuse:
        """Return what is known after G and the sample's were read at one point."""
        before = self.rest if self.use == "sketched" else SketchAverage()
        return replace(self, rest=before.add(gram - sample, moved), way=0.0)

    def carried(self, moved: float) -> HessianReuse:
        """Return what is known after a step to a point at which G was not read."""
        return replace(self, way=self.way + moved)

    def stepped(self, decrement: float) -> HessianReuse:
        """Return what is known when a step is made from this decrement."""
        return replace(self, decrement=decrement)

    def lasts(self, step: float, decrement: float) -> bool:
        """Whether G need not be read after a step of this length, from this decrement."""
        fast = decrement <= FAST * self.decrement
        return self.use == "carried" and fast and self.way + step <= CLOSE
