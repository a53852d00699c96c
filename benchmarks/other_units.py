"""The suite of other units: cosh, sinh and the rescaled loss ½‖u − αb‖², beside L-BFGS.

On synthetic problems the optimum x* is known: b = f(x*) − c, with a residual c of a given
size that is orthogonal to all that x can change, so that the gradient of ½‖f − b‖² vanishes
at x*.  If c is zero, so is the rescaled loss at x*; otherwise its optimum is not known.
The attention problems are those of the other suites.

`excess` is the loss above the lower of both solvers, and `as_distribution` is
½‖f − b‖²/‖b‖², whatever was minimised.  L-BFGS is SciPy's on the same objective, stopped at a
gradient of 1e-8 times the first one; each of its evaluations takes two reads of A, for Ax and
Aᵀy.  At x = 0 the gradient of cosh and the sum of sinh are zero.  For these L-BFGS starts at the
scaled mean of the rows; dresoftmax finds a start itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg as la
from measure import Row
from other_units_plot import SAME, draw
from problems import attention_heads
from scipy.optimize import minimize
from watch import ENDLESS, SCALE, Termination

import dresoftmax
from dresoftmax.model.units import UNITS

__all__ = ["SHOWN", "draw", "measure", "summary"]

TOL = 1e-8
FORMS = (
    ("exp+linear", False), ("cosh", False), ("sinh", False),
    ("exp+linear", True), ("exp", True), ("cosh", True), ("sinh", True),
)  # fmt: skip
SHOWN = (
    "problem", "form", "solver", "x_error", "loss", "as_distribution", "excess", "gradient",
    "reads", "seconds", "status",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Task:
    """An objective, and its optimum if that is known."""

    name: str
    A: np.ndarray
    b: np.ndarray
    unit: str
    rescaled: bool
    x: np.ndarray | None = None

    def loss_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return ½‖u/α − b‖²/‖b‖², or ½‖u − αb‖²/(n‖b‖)², and the gradient.

        The first needs α > 0.  If α ≤ 0 there, or if u overflows, the loss is infinite.
        """
        with np.errstate(all="ignore"):
            u, v, _ = UNITS[self.unit].scaled(self.A @ x, 0.0)
            alpha = float(u.sum())
            if not math.isfinite(float(u @ u)) or (alpha <= 0.0 and not self.rescaled):
                return math.inf, np.zeros_like(x)
            f = self.b if self.rescaled else u / alpha
            c = u - alpha * self.b if self.rescaled else f - self.b
            scale = self.b @ self.b * (float(len(u)) ** 2 if self.rescaled else 1.0)
            slope = self.A.T @ (v * (c - f @ c)) / (1.0 if self.rescaled else alpha)
            return float(0.5 * (c @ c) / scale), slope / scale

    @property
    def form(self) -> str:
        return self.unit + ", rescaled" * self.rescaled

    @property
    def start(self) -> np.ndarray:
        """The start of a solver: x = 0; for cosh and sinh a point at which the mean of z is 0.1."""
        if self.unit.startswith("exp"):
            return np.zeros(self.A.shape[1])
        mean = self.A.mean(axis=0)
        return 0.1 * mean / (mean @ mean)


# What L-BFGS gets in place of an infinite loss: more than at any start.
BEYOND = 1e6


def tasks(full: bool, folder: Path | None) -> Iterator[Task]:
    """Yield synthetic problems with known optima, then attention."""
    n = 50_000 if full else 5_000
    for unit, rescaled in FORMS:
        for cond, residual in ((1.0, 0.1), (1e2, 0.0), (1e2, 0.1)) if full else ((10.0, 0.1),):
            yield known(n, 32, cond, residual, unit, rescaled)
    for name, head in attention_heads(folder):
        for query in range(2 if full else 1):
            A, b = head.problem(query)
            for unit, rescaled in FORMS:
                yield Task(f"attention-{name}-{query}", A, b, unit, rescaled)


def known(n: int, d: int, cond: float, residual: float, unit: str, rescaled: bool) -> Task:
    """Return a problem with b = f(x) − c at an x with Var(Ax) = 1.

    The mean of Ax is 1: the sum of sinh has to be positive.  The residual is relative to ‖f‖.
    """
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, d)) @ np.diag(np.geomspace(1.0, 1.0 / cond, d))
    A = A @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    x = np.linalg.lstsq(A[: 20 * d], rng.standard_normal(20 * d), rcond=None)[0]
    x /= np.std(A @ x)
    A += (1.0 - (A @ x).mean()) * x / (x @ x)
    u, v, _ = UNITS[unit].scaled(A @ x, 0.0)
    alpha = u.sum()
    f = u / alpha
    tangents = (v[:, None] * A - np.outer(f, v @ A)) / alpha
    q = np.linalg.qr(np.column_stack([tangents, np.ones(n)]))[0]
    c = rng.standard_normal(n) * f
    c -= q @ (q.T @ c)
    b = f - c * residual * la.norm(f) / la.norm(c)
    name = f"synthetic-{n}x{d}-cond{cond:g}-residual{residual:g}"
    return Task(name, A, b, unit, rescaled, None if rescaled and residual else x)


def measure(full: bool, folder: Path | None = None) -> list[Row]:
    """Return two rows for each problem, of dresoftmax and of L-BFGS."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for unit, rescaled in FORMS:  # compiles
        A = rng.standard_normal((100, 2)) + 1.0
        dresoftmax.solve(A, np.full(100, 0.01), unit=unit, rescaled=rescaled, max_iter=2)
    for task in tasks(full, folder):
        found = [judged(task, *own(task)), judged(task, *lbfgs(task, 6.0 if full else 1.0))]
        least = min(row["loss"] for row in found)
        rows += [row | {"excess": row["loss"] - least} for row in found]
    return rows


def own(task: Task) -> tuple[str, np.ndarray, float, float, str]:
    """Solve by dresoftmax."""
    began = time.perf_counter()
    result = dresoftmax.solve(task.A, task.b, unit=task.unit, rescaled=task.rescaled, seed=0)
    seconds = time.perf_counter() - began
    return "dresoftmax", result.x, result.data_passes, seconds, result.status.name


def lbfgs(task: Task, cap: float) -> tuple[str, np.ndarray, float, float, str]:
    """Solve by L-BFGS-B, to a relative gradient or for `cap` seconds."""
    watch = Termination(task.A.shape[1], TOL, cap)

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = task.loss_and_gradient(x)
        if value == math.inf:
            return SCALE * BEYOND, gradient
        return watch.see(x, SCALE * value, SCALE * gradient)

    options = {"maxiter": ENDLESS, "maxfun": ENDLESS, "ftol": 0.0, "gtol": 0.0}
    outcome = watch.run(
        lambda: minimize(function, task.start, jac=True, method="L-BFGS-B", options=options)
    )
    status = outcome.note or "CONVERGED"
    return "L-BFGS", outcome.x, 2.0 * outcome.evaluations, outcome.seconds, status


def judged(
    task: Task, solver: str, x: np.ndarray, reads: float, seconds: float, status: str
) -> Row:
    """Return how good an answer is; x and −x are the same to cosh."""
    loss, gradient = task.loss_and_gradient(x)
    error = None
    if task.x is not None:
        signs = (1.0, -1.0) if task.unit == "cosh" else (1.0,)
        error = min(float(la.norm(x - s * task.x)) for s in signs) / float(la.norm(task.x))
    return {
        "problem": task.name,
        "form": task.form,
        "solver": solver,
        "x_error": error,
        "loss": loss,
        "as_distribution": Task(**vars(task) | {"rescaled": False}).loss_and_gradient(x)[0],
        "gradient": float(la.norm(gradient) / la.norm(task.loss_and_gradient(task.start)[1])),
        "reads": reads,
        "seconds": seconds,
        "status": status,
    }


def summary(rows: Sequence[Row]) -> list[str]:
    """Return what dresoftmax reached and took for each form, and L-BFGS beside it."""
    lines = []
    for form in dict.fromkeys(row["form"] for row in rows):
        for kind in ("synthetic", "attention"):
            pairs = paired(rows, form, kind)
            ours = [pair[0] for pair in pairs]
            reads = [row["reads"] for row in ours]
            lines.append(
                f"{form}, {kind}: "
                f"{sum(row['status'] == 'CONVERGED' for row in ours)} of {len(ours)} converged; "
                f"median {np.median(reads):.1f}, worst {max(reads):.1f} reads; L-BFGS "
                f"{np.median([b['reads'] / a['reads'] for a, b in pairs]):.0f} × the reads, "
                f"{np.median([b['seconds'] / a['seconds'] for a, b in pairs]):.1f} × the time; "
                f"worse optimum: {sum(a['excess'] > SAME for a, _ in pairs)} of dresoftmax, "
                f"{sum(b['excess'] > SAME for _, b in pairs)} of L-BFGS"
            )
    return lines


def paired(rows: Sequence[Row], form: str, kind: str) -> list[tuple[Row, Row]]:
    """Return the rows of both solvers for each problem of a form and kind."""
    chosen = [row for row in rows if row["form"] == form and row["problem"].startswith(kind)]
    return list(zip(chosen[::2], chosen[1::2], strict=True))
