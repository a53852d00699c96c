"""The pointwise function u that the regression normalises, and its two derivatives.

The units that come with the package are of one family,

    u(z) = rising·exp(z) + falling·exp(−z) + linear·z,

of which the fused loops take the three numbers; that keeps one loop for all of them.
A `Unit` is a user's own: three functions of a number, compiled on each worker.

Values of a unit are always in units of a reference α₀: u/α₀, u'/α₀ and u''/α₀.  So exp(z)
may be larger than any float.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["UNITS", "AnyUnit", "Exponentials", "Unit"]


@dataclass(frozen=True, slots=True)
class Exponentials:
    """u(z) = rising·exp(z) + falling·exp(−z) + linear·z."""

    name: str
    rising: float
    falling: float = 0.0
    linear: float = 0.0

    @property
    def at_zero(self) -> float:
        """u(0)."""
        return self.rising + self.falling

    @property
    def own(self) -> bool:
        """Whether the loops have to call `evaluate`."""
        return False

    @property
    def family(self) -> tuple[float, float, float]:
        """The numbers that the loops take."""
        return self.rising, self.falling, self.linear

    @property
    def evaluate(self) -> Any:
        """A function for the loops not to call."""
        from dresoftmax.model.unit_compiler import no_unit

        return no_unit

    def scaled(self, z: np.ndarray, log_alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return u(z), u'(z) and u''(z), each divided by α₀."""
        import numpy as np  # the names of units alone need no NumPy

        up = self.rising * np.exp(z - log_alpha)
        down = self.falling * np.exp(-z - log_alpha) if self.falling else 0.0
        slope = self.linear * np.exp(-log_alpha) if self.linear else 0.0
        return up + down + slope * z, up - down + slope, up + down


@dataclass(frozen=True, slots=True)
class Unit:
    """A pointwise function of your own, for ``solve(…, unit=Unit(…))``.

    The functions take a float and return one.  Numba compiles them, here and on the workers,
    into the loops that read A; so they may use `math`, and what else Numba knows.  They are
    evaluated in float64 as they stand, without the reference that keeps exp(z) from
    overflowing: a step to a point where u does not fit is rejected.

    Parameters
    ----------
    name : str
        What it is called in results and checkpoints.
    u, du, d2u : callable
        u(z) and its first and second derivative.  If Σu(0) > 0, a solve starts at x = 0;
        else at a point at which Σu(Ax) is found to be positive.

    Raises
    ------
    TypeError, ValueError
        By `solve`, before any work: if a function cannot be compiled, or `du` or `d2u` is not
        the slope of the one before.

    Examples
    --------
    A unit that grows only linearly, log(1 + exp(z)):

    >>> import math, numpy as np, dresoftmax
    >>> softplus = dresoftmax.Unit(
    ...     "softplus",
    ...     u=lambda z: max(z, 0.0) + math.log1p(math.exp(-abs(z))),
    ...     du=lambda z: 1.0 / (1.0 + math.exp(-z)),
    ...     d2u=lambda z: 0.25 / math.cosh(0.5 * z) ** 2,
    ... )
    >>> A = np.random.default_rng(0).normal(size=(1000, 2))
    >>> u = np.logaddexp(0.0, A @ [0.5, -0.2])
    >>> result = dresoftmax.solve(A, u / u.sum(), unit=softplus)
    >>> result.success, result.x.round(6).tolist()
    (True, [0.5, -0.2])
    """

    name: str
    u: Callable[[float], float] = field(repr=False, compare=False)
    du: Callable[[float], float] = field(repr=False, compare=False)
    d2u: Callable[[float], float] = field(repr=False, compare=False)
    # Under which a process keeps the compiled functions; those that arrive in it with a
    # read are other objects each time.
    key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from cloudpickle import dumps

        code = dumps((self.u, self.du, self.d2u))
        object.__setattr__(self, "key", hashlib.sha256(code).hexdigest())

    def __reduce__(self) -> tuple[Any, ...]:
        # Functions that are defined on the spot are nothing for `pickle` alone, and a
        # result has its unit.
        from cloudpickle import dumps

        return _arrived, (self.name, dumps((self.u, self.du, self.d2u)), self.key)

    @property
    def at_zero(self) -> float:
        """u(0)."""
        import numpy as np

        return float(self.values(np.zeros(1))[0, 0])

    @property
    def own(self) -> bool:
        """Whether the loops have to call `evaluate`."""
        return True

    @property
    def family(self) -> tuple[float, float, float]:
        """Numbers for the loops not to use."""
        return 0.0, 0.0, 0.0

    @property
    def evaluate(self) -> Any:
        """The compiled function that the loops call, see `unit_compiler`."""
        from dresoftmax.model.unit_compiler import compiled

        return compiled(self.key, self.u, self.du, self.d2u)

    def values(self, z: np.ndarray) -> np.ndarray:
        """Return u(z), u'(z) and u''(z) of numbers z, of shape (3, len(z))."""
        from dresoftmax.model.unit_compiler import values

        return values(self.evaluate, z)

    def scaled(self, z: np.ndarray, log_alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return u(z), u'(z) and u''(z), each divided by α₀."""
        u, v, e = self.values(z) * math.exp(-log_alpha)
        return u, v, e


def _arrived(name: str, code: bytes, key: str) -> Unit:
    """Return a unit that was moved, under the key that it had."""
    from cloudpickle import loads

    unit = Unit(name, *loads(code))
    object.__setattr__(unit, "key", key)
    return unit


AnyUnit = Exponentials | Unit

UNITS = {
    "exp+linear": Exponentials("exp+linear", 1.0, linear=1.0),
    "exp": Exponentials("exp", 1.0),
    "cosh": Exponentials("cosh", 0.5, falling=0.5),
    "sinh": Exponentials("sinh", 0.5, falling=-0.5),
}
