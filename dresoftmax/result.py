"""What a solve gives back: the status, one record per iteration, the result.

Records only: nothing here computes, and nothing here imports another module
of the package.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["IterationRecord", "SolveResult", "Status"]


class Status(enum.IntEnum):
    """Why a solve ended.  Only `CONVERGED` is a success."""

    CONVERGED = 0
    ITERATION_LIMIT = 1
    CALLBACK_STOP = 2
    SOLUTION_AT_INFINITY = 3
    NUMERICAL_LIMIT = 4


@dataclass(frozen=True, slots=True)
class IterationRecord:
    """One iteration: the point that it ended at, and what reaching it cost.

    Attributes
    ----------
    iteration : int
        Counts from 0, over both phases.
    phase : {"sample", "full"}
        Whether the point was evaluated on a sample of rows, held by the driver,
        or on all rows.  Before the first read of all rows, losses on the sample are
        its own; after that it is tilted to agree with all rows where they were last
        read, and its losses foretell theirs.
    step : str
        "start" (no step yet), "newton" (the minimiser of the quadratic model),
        "boundary" (the model's minimiser within the trust region), "stretched"
        (a Newton step made longer), "corrected" (a step over all rows that the
        sample has bettered), "anchor" (the sample read where all rows have just
        been), "rejected" (no trial improved the loss) or "unread" (the last step,
        whose result was foreseen and not read).
    loss, gradient_norm, decrement, alpha : float
        The objective, ‖∇L‖₂, the Newton decrement √(gᵀH⁻¹g) (infinite where H
        is not positive definite) and α at the point.
    step_norm, radius : float
        Length of the step that led here and trust radius for the next one, both
        as the root mean square change of z = Ax over the rows.
    candidates : int
        Trial points evaluated together in this iteration's one read.
    rows_read, rows_sketched : int
        Rows of A read, and rows that entered the Hessian, in this iteration.
    data_passes : float
        Rows of A read so far, divided by n.
    seconds : float
        Wall time since the solve began.
    """

    iteration: int
    phase: str
    step: str
    loss: float
    gradient_norm: float
    decrement: float
    alpha: float
    step_norm: float
    radius: float
    candidates: int
    rows_read: int
    rows_sketched: int
    data_passes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SolveResult:
    """The answer of `dresoftmax.solve`.

    Attributes
    ----------
    x : ndarray of shape (d,)
        The best point found, always finite.
    fun : float
        The objective at `x`.
    jac : ndarray of shape (d,)
        Its gradient at `x`.
    nit : int
        Newton iterations over all rows (those on the sample are in `history`).
    success : bool
        True only where `status` is `Status.CONVERGED`.
    status : Status
        Why the solve ended.
    message : str
        The same in words, with advice where the problem itself is at fault.
    decrement : float
        Newton decrement √(gᵀH⁻¹g) at `x`; convergence means
        ``decrement <= tol * norm(b)``.  It bounds, to first order, how much the
        fitted distribution f can still change in the 2-norm.  Where the last step
        was not read (``history[-1].step == "unread"``) it is a bound that follows
        from how the decrement has fallen, and `fun`, `jac` and `alpha` are foreseen,
        to a relative 1e-9 or better in `fun`.
    alpha : float
        α(x) = Σ u(Ax), the normaliser.
    x_error_estimate : float
        Length of the Newton step at `x`, which estimates ‖x − x*‖₂ (foreseen too where
        the last step was not read).
    data_passes : float
        Rows of A read divided by n, sample phases included.
    hessian_kind : str
        "exact", "leverage", "uniform" or "countsketch": what was used.
    rank : int
        Numerical rank of A.  Below d the solution of least norm is returned.
    history : list of IterationRecord
        One record per iteration; ``pandas.DataFrame(result.history)`` works.
    names : tuple of str or None
        The names of A's columns, where it came with any.
    """

    x: np.ndarray
    fun: float
    jac: np.ndarray
    nit: int
    success: bool
    status: Status
    message: str
    decrement: float
    alpha: float
    x_error_estimate: float
    data_passes: float
    hessian_kind: str
    rank: int
    history: list[IterationRecord]
    names: tuple[str, ...] | None = None

    @property
    def coefficients(self) -> dict[str, float]:
        """`x` under the names of A's columns; "x0", "x1" and so on where it had none."""
        names = self.names or [f"x{j}" for j in range(len(self.x))]
        return dict(zip(names, self.x.tolist(), strict=True))

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        shown["status"] = self.status.name
        shown["history"] = f"<{len(self.history)} records>"
        width = max(map(len, shown))
        return "\n".join(
            f"{name:>{width}}: {str(value).replace(chr(10), chr(10) + ' ' * (width + 2))}"
            for name, value in shown.items()
        )
