"""What a solve gives back: the status, one record per iteration, the result.

Records only: nothing here computes, and nothing here imports another module
of the package.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np

    from dresoftmax.model.units import Unit

__all__ = ["IterationRecord", "JointResult", "SolveResult", "Status"]


class Status(enum.IntEnum):
    """Why a solve ended.  Only `CONVERGED` is a success."""

    CONVERGED = 0
    ITERATION_LIMIT = 1
    CALLBACK_STOP = 2
    SOLUTION_AT_INFINITY = 3
    NUMERICAL_LIMIT = 4
    INTERRUPTED = 5


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
        its own; after that it is tilted to agree with all rows at the point at which they
        were last read, and its losses foretell theirs.
    step : str
        "start" (no step yet), "newton" (the minimiser of the quadratic model),
        "boundary" (the model's minimiser within the trust region), "stretched"
        (a Newton step made longer), "corrected" (a step over all rows that the
        sample has improved), "anchor" (the sample read at the point at which all rows have
        just been read), "rejected" (no trial improved the loss) or "unread" (the last step,
        whose result was foreseen and not read).
    loss, gradient_norm, decrement, alpha : float
        The objective, ‖∇L‖₂, the Newton decrement √(gᵀH⁻¹g) (infinite if H
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
    target : int
        Column of b, 0 if there is only one.
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
    target: int = 0


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
        True only if `status` is `Status.CONVERGED`.
    status : Status
        Why the solve ended.
    message : str
        The same in words, with advice if the problem itself is at fault.
    decrement : float
        Newton decrement √(gᵀH⁻¹g) at `x`.  It bounds, to first order, how much the
        fitted distribution f can still change in the 2-norm.  For the rescaled loss it is
        divided by the α of the sample's solution, or that of x = 0.  If the last step
        was not read (``history[-1].step == "unread"``) it is a bound that follows
        from how the decrement has fallen, and `fun`, `jac` and `alpha` are foreseen,
        to a relative 1e-9 or better in `fun`.
    target_decrement : float
        tol·‖b‖; convergence means ``decrement <= target_decrement``.
    alpha : float
        α(x) = Σ u(Ax), the normaliser.
    x_error_estimate : float
        Length of the Newton step at `x`, which estimates ‖x − x*‖₂ (foreseen, too, if
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
        The names of A's columns, if it came with any.
    unit : str or Unit
        The pointwise function that was fitted, by its name, or a user's own.
    loss : {"squared", "rescaled"}
        ½‖f − b‖², or ½‖u − αb‖².
    ridge : float
        λ.
    w : float, str or None
        The weight of the quadratic term; "rows" if each row had its own, None without.
    n : int
        Rows of A.
    b_sum : float
        Σb.
    """

    x: np.ndarray
    fun: float
    jac: np.ndarray
    nit: int
    success: bool
    status: Status
    message: str
    decrement: float
    target_decrement: float
    alpha: float
    x_error_estimate: float
    data_passes: float
    hessian_kind: str
    rank: int
    history: list[IterationRecord]
    names: tuple[str, ...] | None
    unit: str | Unit
    loss: str
    ridge: float
    w: float | str | None
    n: int
    b_sum: float

    @property
    def coefficients(self) -> dict[str, float]:
        """`x` under the names of A's columns; "x0", "x1" and so on if it had none."""
        names = self.names or [f"x{j}" for j in range(len(self.x))]
        return dict(zip(names, self.x.tolist(), strict=True))

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        shown["status"] = self.status.name
        shown["unit"] = getattr(self.unit, "name", self.unit)
        shown["history"] = f"<{len(self.history)} records>"
        return _table(shown)


@dataclass(frozen=True, slots=True, repr=False)
class JointResult(Sequence[SolveResult]):
    """The answers of `dresoftmax.solve` for several targets, fitted in the same reads.

    ``result[t]`` is the `SolveResult` of target t, column t of b, with a history and
    data passes of its own.

    Attributes
    ----------
    each : tuple of SolveResult
        The answers, one for each of the k targets.
    data_passes : float
        Rows of A read divided by n: those read for several targets at once count
        once, those of samples for each target.
    history : list of IterationRecord
        The records of all targets, in the order in which they came.
    target_names : tuple of str or None
        The names of b's columns, if it came with any.
    """

    each: tuple[SolveResult, ...]
    data_passes: float
    history: list[IterationRecord]
    target_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.each)

    @overload
    def __getitem__(self, target: int) -> SolveResult: ...

    @overload
    def __getitem__(self, target: slice) -> tuple[SolveResult, ...]: ...

    def __getitem__(self, target: int | slice) -> SolveResult | tuple[SolveResult, ...]:
        return self.each[target]

    @property
    def x(self) -> np.ndarray:
        """The best points found, of shape (d, k)."""
        return self._stack("x")

    @property
    def fun(self) -> np.ndarray:
        """The objective of each target, of shape (k,)."""
        return self._stack("fun")

    @property
    def jac(self) -> np.ndarray:
        """The gradients, of shape (d, k)."""
        return self._stack("jac")

    @property
    def nit(self) -> np.ndarray:
        """Newton iterations over all rows for each target, of shape (k,)."""
        return self._stack("nit")

    @property
    def decrement(self) -> np.ndarray:
        """The Newton decrement of each target, of shape (k,)."""
        return self._stack("decrement")

    @property
    def target_decrement(self) -> np.ndarray:
        """The decrement to reach for each target, of shape (k,)."""
        return self._stack("target_decrement")

    @property
    def alpha(self) -> np.ndarray:
        """The normaliser of each target, of shape (k,)."""
        return self._stack("alpha")

    @property
    def x_error_estimate(self) -> np.ndarray:
        """The length of the Newton step left for each target, of shape (k,)."""
        return self._stack("x_error_estimate")

    @property
    def status(self) -> tuple[Status, ...]:
        """Why the fit of each target ended."""
        return tuple(result.status for result in self.each)

    @property
    def success(self) -> bool:
        """Whether the fits of all targets converged."""
        return all(result.success for result in self.each)

    @property
    def message(self) -> str:
        """How many targets converged, and why the first of the others did not."""
        failed = [i for i, result in enumerate(self.each) if not result.success]
        words = f"{len(self) - len(failed)} of {len(self)} targets converged."
        return f"{words} Target {failed[0]}: {self[failed[0]].message}" if failed else words

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of A's columns, if it came with any."""
        return self.each[0].names

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        """`SolveResult.coefficients` of each target under its name, or "b0", "b1" and so on."""
        names = self.target_names or [f"b{t}" for t in range(len(self))]
        return {name: fit.coefficients for name, fit in zip(names, self.each, strict=True)}

    @property
    def hessian_kind(self) -> str:
        """What was used, the same for all targets."""
        return self.each[0].hessian_kind

    @property
    def rank(self) -> int:
        """Numerical rank of A."""
        return self.each[0].rank

    @property
    def b_sum(self) -> np.ndarray:
        """Σb of each target, of shape (k,)."""
        return self._stack("b_sum")

    def _stack(self, name: str) -> np.ndarray:
        import numpy as np

        return np.stack([getattr(result, name) for result in self.each], axis=-1)

    def __repr__(self) -> str:
        names = ["x", "fun", "nit", "success", "message", "decrement", "data_passes"]
        return _table({name: getattr(self, name) for name in names})


def _table(values: Mapping[str, Any]) -> str:
    """Return names and values in lines, the names flush right."""
    width = max(map(len, values))
    return "\n".join(
        f"{name:>{width}}: {str(value).replace(chr(10), chr(10) + ' ' * (width + 2))}"
        for name, value in values.items()
    )
