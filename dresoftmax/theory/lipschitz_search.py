"""Where the Hessian changes fastest: climbs over the places in a ball, and directions there.

The quotient ‖∇²L(x) − ∇²L(y)‖/‖x − y‖ of neighbours is ‖D³L[u]‖, with u the direction from
one to the other.  As D³L is a symmetric form, with v the leading eigenvector of D³L[u],

    ‖D³L[u]‖ = |D³L[u, v, v]| ≤ ‖D³L[v]v‖ ≤ ‖D³L[v]‖,

so that u ← v never loses: a climb, of which each step takes two Hessians.  It also looks for
better places at random, ever nearer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dresoftmax.optimize.objective import TrialPoint
from dresoftmax.problem import Problem

__all__ = ["Neighbours", "Pair", "climb", "in_ball", "typical_length"]

# Neighbours are apart by so much of the length over which the Hessian changes.
STEP = 1e-4
# Steps of a climb; each also tries a place nearby, at first within so much of the ball, and
# then nearer by this factor each time.
STEPS, SPREAD, SHRINK = 10, 0.5, 0.7

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A pair of points, its quotient, and the direction to go on in.

    The quotient is −1 where a point is outside the domain.
    """

    value: float
    pair: Pair
    direction: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """The place between the points."""
        return 0.5 * (self.pair[0] + self.pair[1])


def climb(
    problem: Problem,
    starts: Sequence[np.ndarray],
    centre: np.ndarray,
    R: float,
    rng: np.random.Generator,
) -> Neighbours:
    """Return the best of the neighbours that climbs from `starts` in the ball come to."""
    h = STEP * min(R, typical_length(problem, centre))
    climbs = [
        Neighbours(-1.0, (x, x), u)
        for x, u in zip(starts, rng.standard_normal((len(starts), problem.d)), strict=True)
    ]
    for step in range(STEPS):
        moves = SPREAD * SHRINK**step * in_ball(rng, len(climbs), problem.d, R)
        tried = _neighbours(
            problem,
            [
                (_into(x, centre, R - h), climb.direction)
                for climb, move in zip(climbs, moves, strict=True)
                for x in (climb.middle, climb.middle + move)
            ],
            h,
        )
        climbs = [
            max(before, here, there, key=lambda found: found.value)
            for before, here, there in zip(climbs, tried[::2], tried[1::2], strict=True)
        ]
    return max(climbs, key=lambda found: found.value)


def _neighbours(problem: Problem, tries: Sequence[Pair], h: float) -> list[Neighbours]:
    """Return the pairs x ± hu of places x and directions u, each with its leading direction."""
    pairs = []
    for x, u in tries:
        offset = h * u / np.linalg.norm(u)
        pairs.append((x + offset, x - offset))
    models = problem.trials([point for pair in pairs for point in pair])
    found = []
    for (_, u), pair, one, other in zip(tries, pairs, models[::2], models[1::2], strict=True):
        if one is None or other is None:
            found.append(Neighbours(-1.0, pair, u))
            continue
        values, vectors = np.linalg.eigh((one.hessian - other.hessian) / (2.0 * h))
        leading = int(np.argmax(np.abs(values)))
        found.append(Neighbours(float(np.abs(values[leading])), pair, vectors[:, leading]))
    return found


def _into(x: np.ndarray, centre: np.ndarray, R: float) -> np.ndarray:
    """Return x, or where it is outside the ball the point of the ball next to it."""
    distance = float(np.linalg.norm(x - centre))
    return x if distance <= R else centre + (x - centre) * (R / distance)


def typical_length(problem: Problem, x: np.ndarray) -> float:
    """Return the step that changes Ax by 1 in the root mean square, in an average direction."""
    objective = problem.objective()
    start = TrialPoint(x, math.log(problem.n), 0.0)
    metric, _ = objective.metric(objective.evaluate([start], None, metric=True))
    return math.sqrt(problem.d) / metric.row_norm if metric.row_norm else 1.0


def in_ball(rng: np.random.Generator, count: int, d: int, R: float) -> np.ndarray:
    """Draw points evenly from the ball of radius R, of shape (count, d)."""
    directions = rng.standard_normal((count, d))
    lengths = R * rng.uniform(size=(count, 1)) ** (1.0 / d)
    return lengths * directions / np.linalg.norm(directions, axis=1, keepdims=True)
