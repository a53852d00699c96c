"""A local search for the point and the direction in which the Hessian changes fastest.

For points x and y close together, ‖∇²L(x) − ∇²L(y)‖/‖x − y‖ is ‖D³L[u]‖, with u the unit
direction from x to y.  D³L is a symmetric form, so with v the leading eigenvector of D³L[u]

    ‖D³L[u]‖ = |D³L[u, v, v]| ≤ ‖D³L[v]v‖ ≤ ‖D³L[v]‖,

and the iteration u ← v never decreases the quotient.  Each step evaluates two Hessians here,
and two at a random point nearby, with a radius that shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dresoftmax.model.evaluation import TrialPoint
from dresoftmax.problem import Problem

__all__ = ["DifferenceQuotient", "Pair", "in_ball", "search", "typical_length"]

# h in (∇²L(x + hu) − ∇²L(x − hu))/2h, relative to the length over which the Hessian changes.
STEP = 1e-4
# Steps of the search; the random move of the first, relative to the radius of the ball; and the
# factor by which the move shrinks in each step.
STEPS, SPREAD, SHRINK = 10, 0.5, 0.7

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class DifferenceQuotient:
    """A pair of points, the difference quotient of their Hessians, and the next direction.

    `value` is −1 if a point is outside the domain.
    """

    value: float
    pair: Pair
    direction: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """The midpoint of the pair."""
        return 0.5 * (self.pair[0] + self.pair[1])


def search(
    problem: Problem,
    starts: Sequence[np.ndarray],
    centre: np.ndarray,
    R: float,
    rng: np.random.Generator,
) -> DifferenceQuotient:
    """Return the largest quotient that the search finds from `starts` within the ball."""
    h = STEP * min(R, typical_length(problem, centre))
    best = [
        DifferenceQuotient(-1.0, (x, x), u)
        for x, u in zip(starts, rng.standard_normal((len(starts), problem.d)), strict=True)
    ]
    for step in range(STEPS):
        moves = SPREAD * SHRINK**step * in_ball(rng, len(best), problem.d, R)
        tried = _quotients(
            problem,
            [
                (_project(x, centre, R - h), found.direction)
                for found, move in zip(best, moves, strict=True)
                for x in (found.middle, found.middle + move)
            ],
            h,
        )
        best = [
            max(before, here, there, key=lambda found: found.value)
            for before, here, there in zip(best, tried[::2], tried[1::2], strict=True)
        ]
    return max(best, key=lambda found: found.value)


def _quotients(problem: Problem, tries: Sequence[Pair], h: float) -> list[DifferenceQuotient]:
    """Return the quotients of the pairs x ± hu, each with the leading eigenvector of D³L[u]."""
    pairs = []
    for x, u in tries:
        offset = h * u / np.linalg.norm(u)
        pairs.append((x + offset, x - offset))
    evaluations = problem.trials([point for pair in pairs for point in pair])
    found = []
    sides = evaluations[::2], evaluations[1::2]
    for (_, u), pair, one, other in zip(tries, pairs, *sides, strict=True):
        if one is None or other is None:
            found.append(DifferenceQuotient(-1.0, pair, u))
            continue
        values, vectors = np.linalg.eigh((one.hessian - other.hessian) / (2.0 * h))
        leading = int(np.argmax(np.abs(values)))
        value = float(np.abs(values[leading]))
        found.append(DifferenceQuotient(value, pair, vectors[:, leading]))
    return found


def _project(x: np.ndarray, centre: np.ndarray, R: float) -> np.ndarray:
    """Return the projection of x onto the ball."""
    distance = float(np.linalg.norm(x - centre))
    return x if distance <= R else centre + (x - centre) * (R / distance)


def typical_length(problem: Problem, x: np.ndarray) -> float:
    """Return the length of a step that changes Ax by 1 (RMS), in an average direction."""
    objective = problem.objective()
    point = TrialPoint(x, math.log(problem.n), 0.0)
    whitening, _ = objective.whitening(objective.evaluate([point], column_gram=True))
    return math.sqrt(problem.d) / whitening.row_norm if whitening.row_norm else 1.0


def in_ball(rng: np.random.Generator, count: int, d: int, R: float) -> np.ndarray:
    """Draw points uniformly from the ball of radius R, of shape (count, d)."""
    directions = rng.standard_normal((count, d))
    lengths = R * rng.uniform(size=(count, 1)) ** (1.0 / d)
    return lengths * directions / np.linalg.norm(directions, axis=1, keepdims=True)
