"""One rule by which all peers stop: the first gradient that is small enough.

A `Termination` sees every gradient that a solver asks for.  At the target, or when
the time is up, it raises `Stop`, which ends the solver from within.  The solvers' own
tolerances are not used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg as la
from threadpoolctl import ThreadpoolController

# More iterations than any solver gets to in its time.
ENDLESS = 10**7
# Peers minimise SCALE·L/‖b‖².  L itself is of order 1/n, which is below absolute
# tolerances; with SCALE = 1, SciPy's Newton methods still give up at gradients of 1e-7.
SCALE = 100.0
# Rounding of the loss ends many line searches a little before the tolerance, at up to
# NEAR times as large a gradient; some then loop forever, and are ended after STALLED
# evaluations without a smaller gradient.
NEAR = 100.0
STALLED = 100


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answer of a solver, and its cost.

    Evaluations are reads of all of A, except those that only multiply by the Hessian.
    Compilation is not in `seconds`.  The curve has seconds and relative gradient of
    each evaluation.
    """

    x: np.ndarray
    seconds: float
    evaluations: float
    note: str = ""
    compile_seconds: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)


class Stop(Exception):
    """Raised within a solver, to end it."""


class Termination:
    """Watches the gradients that a solver evaluates, the first of them at x = 0.

    Parameters
    ----------
    d : int
        Length of x.
    tol : float
        Of ‖∇L(x)‖/‖∇L(0)‖.
    cap : float
        Seconds after which the solver is stopped.

    Attributes
    ----------
    x : ndarray of shape (d,)
        The point of the smallest gradient so far.
    """

    def __init__(self, d: int, tol: float, cap: float) -> None:
        self.x = np.zeros(d)
        self.tol = tol
        self.cap = cap
        self._first = self._least = math.nan
        self._last = 0
        self._curve: list[tuple[float, float]] = []
        self._began = 0.0

    def see(self, x: np.ndarray, value: float, gradient: np.ndarray) -> tuple[float, np.ndarray]:
        """Return value and gradient, or raise `Stop` if no more of them are needed."""
        seconds = time.perf_counter() - self._began
        norm = float(la.norm(gradient, check_finite=False))
        if not self._curve:
            self._first = self._least = norm
        if norm < self._least:
            self.x, self._least = np.array(x, dtype=np.float64), norm
            self._last = len(self._curve)
        relative = norm / self._first
        self._curve.append((seconds, relative))
        if relative <= self.tol:
            raise Stop("")
        since = len(self._curve) - self._last
        if since > STALLED and self._least <= NEAR * self.tol * self._first:
            raise Stop("stalled")
        if seconds > self.cap:
            raise Stop(f"capped at {self.cap:g} s")
        return value, gradient

    def run(self, call: Callable[[], object], compile_seconds: float = 0.0) -> Outcome:
        """Run a solver that passes its gradients to `see`."""
        # If SciPy brings its own BLAS, its small matrices gain nothing from threads,
        # and those threads slow down NumPy's: up to 25 times slower.
        controller = ThreadpoolController()
        own = [lib["filepath"] for lib in controller.info() if "scipy.libs" in lib["filepath"]]
        with controller.select(filepath=own).limit(limits=1):
            return self._run(call, compile_seconds)

    def _run(self, call: Callable[[], object], compile_seconds: float) -> Outcome:
        self._began = time.perf_counter()
        try:
            result = call()
            note = f"ended by itself: {getattr(result, 'message', 'no progress')}"
        except Stop as stop:
            note = str(stop)
        seconds = time.perf_counter() - self._began
        return Outcome(self.x, seconds, len(self._curve), note, compile_seconds, self._curve)
