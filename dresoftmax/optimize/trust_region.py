"""The trust region: which steps to try next, and how far to trust the model then.

Several steps are tried in one read: on real data half of the single early ones
fail, and full Newton steps are often too short.  Where the model has proved
itself one is enough.

Steps are in the whitened coordinates of `subproblem`, so that a radius is an RMS
change of z = Ax.  Nothing is evaluated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg as la

from dresoftmax.optimize.quadratic_model import QuadraticModel

__all__ = ["Step", "TrustRegion"]

# Radii and lengths that are tried together, as factors.
RADII = (1.0, 3.0, 1.0 / 3.0)
LENGTHS = (1.0, 1.6, 2.5)
# Newton steps shorter than this need no company.
SHORT = 0.3


@dataclass(frozen=True, slots=True)
class Step:
    """A trial step y of one kind: "newton", "stretched", "boundary" or "corrected"."""

    kind: str
    y: np.ndarray

    @property
    def norm(self) -> float:
        """RMS change of z."""
        return float(la.norm(self.y))


class TrustRegion:
    """How far the model is trusted, by how good it was.

    Parameters
    ----------
    radius : float
        The first radius.
    limit : float
        Length of all steps together that is not to be exceeded.

    Attributes
    ----------
    moved : ndarray or float
        The sum of all steps made, 0 before the first.
    """

    def __init__(self, radius: float, limit: float = math.inf) -> None:
        self.radius = radius
        self.limit = limit
        self.moved: np.ndarray | float = 0.0
        self._proved = False
        self._slow = False

    @property
    def room(self) -> float:
        """How long the next step may be, whatever its direction."""
        return self.limit - float(np.linalg.norm(self.moved))

    def propose(self, quadratic: QuadraticModel) -> list[Step]:
        """Return the steps to try, the first of them the model's own choice.

        A Newton step goes alone where the last one was as good as its model, or
        where it is short, unless the steps hardly shrink.
        """
        newton, room = quadratic.newton, self.room
        radius = min(self.radius, room)
        if newton is None or la.norm(newton) > radius:
            radii = dict.fromkeys(min(factor * radius, room) for factor in RADII)
            return [Step("boundary", quadratic.step(length)) for length in radii]
        alone = self._proved or (la.norm(newton) <= SHORT and not self._slow)
        return [
            Step("newton" if factor == 1.0 else "stretched", factor * newton)
            for factor in (LENGTHS[:1] if alone else LENGTHS)
            if factor == 1.0 or factor * la.norm(newton) <= room
        ]

    def reject(self, tried: Sequence[Step]) -> None:
        """Take note that none of the steps was any good."""
        self.radius = 0.25 * min(step.norm for step in tried)
        self._proved = False

    def accept(
        self, step: Step, tried: Sequence[Step], ratio: float, after: QuadraticModel
    ) -> None:
        """Take note of a step that was made.

        Parameters
        ----------
        ratio : float
            The fall of the loss over that of the model.
        after : Quadratic
            The model at the new point.
        """
        self.moved = self.moved + step.y
        ahead = math.inf if after.newton is None else float(la.norm(after.newton))
        self._slow = ahead > 0.5 * step.norm
        self._proved = (
            step.kind in ("newton", "corrected") and 0.75 <= ratio <= 1.25 and not self._slow
        )
        if ratio < 0.25:
            self.radius = 0.5 * step.norm
        elif step.norm >= 0.99 * max(other.norm for other in tried):
            self.radius = max(self.radius, 2.0 * step.norm)
        else:
            self.radius = max(step.norm, 0.5 * self.radius)
