"""The trust region: which steps to try next, and how far to trust the model then.

Several steps are tried in one read: on real data half of the single early ones
fail, and full Newton steps are often too short.  If the model has proved itself,
one is enough.

Steps are in whitened coordinates, so that a radius is an RMS change of z = Ax.
Nothing is evaluated here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class TrustRegion:
    """How far the model is trusted, by how good it was.

    Attributes
    ----------
    radius : float
    limit : float
        Length of all steps together that is not to be exceeded.
    moved : ndarray or float
        The sum of all steps made, 0 before the first.
    proved : bool
        Whether the last step was as good as its model.
    slow : bool
        Whether steps hardly shrink.
    """

    radius: float
    limit: float = math.inf
    moved: np.ndarray | float = 0.0
    proved: bool = False
    slow: bool = False

    @property
    def room(self) -> float:
        """How long the next step may be, whatever its direction."""
        return self.limit - float(np.linalg.norm(self.moved))

    @property
    def reach(self) -> float:
        """How long the next step may be."""
        return min(self.radius, self.room)

    def propose(self, quadratic: QuadraticModel) -> list[Step]:
        """Return the steps to try, the first of them the model's own choice.

        A Newton step goes alone if the last one was as good as its model, or
        if it is short, unless the steps hardly shrink.
        """
        newton, room = quadratic.newton, self.room
        if newton is None or la.norm(newton) > self.reach:
            radii = dict.fromkeys(min(factor * self.reach, room) for factor in RADII)
            return [Step("boundary", quadratic.step(length)) for length in radii]
        alone = self.proved or (la.norm(newton) <= SHORT and not self.slow)
        return [
            Step("newton" if factor == 1.0 else "stretched", factor * newton)
            for factor in (LENGTHS[:1] if alone else LENGTHS)
            if factor == 1.0 or factor * la.norm(newton) <= room
        ]

    def rejected(self, tried: Sequence[Step]) -> TrustRegion:
        """Return the region after none of the steps was any good."""
        return replace(self, radius=0.25 * min(step.norm for step in tried), proved=False)

    def accepted(
        self, step: Step, tried: Sequence[Step], ratio: float, after: QuadraticModel
    ) -> TrustRegion:
        """Return the region after a step that was made.

        Parameters
        ----------
        ratio : float
            The fall of the loss over that of the model.
        after : QuadraticModel
            The model at the new point.
        """
        ahead = math.inf if after.newton is None else float(la.norm(after.newton))
        slow = ahead > 0.5 * step.norm
        if ratio < 0.25:
            radius = 0.5 * step.norm
        elif step.norm >= 0.99 * max(other.norm for other in tried):
            radius = max(self.radius, 2.0 * step.norm)
        else:
            radius = max(step.norm, 0.5 * self.radius)
        return replace(
            self,
            radius=radius,
            moved=self.moved + step.y,
            proved=step.kind in ("newton", "corrected") and 0.75 <= ratio <= 1.25 and not slow,
            slow=slow,
        )
