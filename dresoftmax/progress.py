"""The progress of a running solve: one line per iteration, and an estimate of the rest.

`Progress` is an ordinary callback.  On a terminal it shows a live table, in a notebook it
updates one table in the cell, and elsewhere it prints plain lines; all of it goes to stderr.
`estimate_remaining` is the pure function behind the estimate.

Observation only: nothing here returns a value to the solver, and a failure to
draw ends the drawing, never the solve.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from dresoftmax.result import IterationRecord

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Progress", "Remaining", "estimate_remaining"]

COLUMNS = [
    "iteration", "phase", "step", "loss", "decrement", "radius", "passes", "seconds",
]  # fmt: skip
# Lines around the rows of the live table: its header, rule, spinner and the prompt.
LINES_AROUND = 6


@dataclass(frozen=True, slots=True)
class Remaining:
    """What remains of a solve, estimated from its last iterations."""

    iterations: int
    seconds: float

    def __str__(self) -> str:
        noun = "iteration" if self.iterations == 1 else "iterations"
        return f"about {self.iterations} {noun}, {format_seconds(self.seconds)} left"


def estimate_remaining(history: Sequence[IterationRecord], target: float) -> Remaining | None:
    """Estimate what remains until the decrement reaches `target`.

    The last two steps on all rows must be full Newton steps that reduced the logarithm of the
    decrement, by l₁ and then l₂.  If l₂/l₁ is near 2, convergence is quadratic, and every step
    gains twice as much as the one before; if it is near 1, convergence is linear, and every
    step gains the same.

    Parameters
    ----------
    history : sequence of IterationRecord
        The records so far.
    target : float
        The decrement at which the solve ends.

    Returns
    -------
    Remaining or None
        None if the last records on all rows allow no estimate: there are fewer than three, the
        trust region or a rejection determined a step, or the contraction slows down.  None also
        if the target is reached.
    """
    last = [record for record in history if record.phase == "full"][-3:]
    if len(last) < 3 or any(record.step not in ("newton", "corrected") for record in last[1:]):
        return None
    decrements = [record.decrement for record in last]
    if not 0 < target < decrements[-1] or not all(0 < value < math.inf for value in decrements):
        return None
    first, second, third = map(math.log, decrements)
    before, now = first - second, second - third
    if before <= 0 or now <= before / 2:
        return None
    distance = third - math.log(target)
    if now >= 1.5 * before:
        # gains 2·now, 4·now, … add up to (2^(m+1) − 2)·now after m steps
        steps = math.log2(distance / now + 2) - 1
    else:
        steps = distance / ((before + now) / 2)
    iterations = math.ceil(steps - 1e-9)
    return Remaining(iterations, iterations * (last[-1].seconds - last[0].seconds) / 2)


class Progress:
    """Show the records of a solve as they arrive.

    With several targets, only the last record of each is shown, and only records on all rows.

    Parameters
    ----------
    target : float or array_like of shape (k,)
        The decrement at which the solve ends, for each target: tol·‖b‖.
    console : rich.console.Console, optional
        Where to draw; stderr if not given.

    Notes
    -----
    ``solve(A, b, progress=True)`` does the same as::

        with Progress(tol * norm(b)) as progress:
            solve(A, b, callback=progress)
    """

    def __init__(self, target: ArrayLike, console: Console | None = None) -> None:
        self._targets = np.atleast_1d(target)
        self._console = console or Console(stderr=True)
        self._history: list[IterationRecord] = []
        self._broken = False
        self._live: Live | None = None
        self._spinner = Spinner("dots")
        self._cell: Any = None

    def __enter__(self) -> Self:
        self._attempt(self._open)
        return self

    def __call__(self, record: IterationRecord) -> None:
        """Show one more record."""
        if self._many and record.phase == "sample":
            return
        self._history.append(record)
        self._attempt(self._draw)

    @property
    def _many(self) -> bool:
        return len(self._targets) > 1

    @property
    def _shown(self) -> list[IterationRecord]:
        if not self._many:
            return self._history
        last = {record.target: record for record in self._history}
        return [last[target] for target in sorted(last)]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._attempt(self._close)

    def _attempt(self, draw: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            draw()
        except Exception:
            # A closed terminal or a full disk must not cost the user the solve.
            self._broken = True
            with suppress(Exception):
                self._close()  # restores the redirected streams

    def _open(self) -> None:
        console = self._console
        # With FORCE_COLOR, rich treats a file as a terminal; a live table would clutter it.
        if console.is_terminal and console.file.isatty() and not console.is_dumb_terminal:
            self._live = Live(
                console=console,
                get_renderable=self._live_view,
                refresh_per_second=8,
                # Redirected output belongs in its file, not above the table.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()

    def _draw(self) -> None:
        if self._live is not None:
            return  # its own thread draws, so that quick iterations do not wait
        if self._console.is_jupyter:
            self._draw_cell()
        else:
            line = format_line(self._history[-1], self._remaining())
            if self._many:
                line = f"target {self._history[-1].target}, {line}"
            self._console.file.write(line + "\n")
            self._console.file.flush()

    def _draw_cell(self) -> None:
        # rich's own live display needs ipywidgets; a display handle does not.
        from IPython.display import display

        table = self._table(caption=str(self._remaining() or ""))
        if self._cell is None:
            self._cell = display(table, display_id=True)
        else:
            self._cell.update(table)

    def _close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
        elif self._cell is not None:
            self._cell.update(self._table())

    def _live_view(self) -> RenderableType:
        if self._live is None:  # the last view, which stays: every row, and no spinner
            return self._table()
        rows = max(self._console.height - LINES_AROUND, 1)
        left = self._remaining()
        self._spinner.update(text=f"solving … {left}" if left else "solving …")
        return Group(self._table(rows), self._spinner)

    def _table(self, rows: int = 0, caption: str | None = None) -> Table:
        return history_table(self._shown[-rows:], caption, targets=self._many)

    def _remaining(self) -> Remaining | None:
        if not self._many:
            return estimate_remaining(self._history, float(self._targets[0]))
        return None


def history_table(
    history: Sequence[IterationRecord], caption: str | None = None, *, targets: bool = False
) -> Table:
    """Return the records as a table, one row each; `targets` adds a column of the target."""
    table = Table(box=None, caption=caption, header_style="bold")
    for name in ["target"] * targets + COLUMNS:
        table.add_column(name, justify="left" if name in ("phase", "step") else "right")
    for record in history:
        cells = [str(record.target)] * targets + format_cells(record)
        # A sample's losses are not comparable with those of all rows.
        table.add_row(*cells, style="dim" if record.phase == "sample" else None)
    return table


def format_cells(record: IterationRecord) -> list[str]:
    """Return the record's numbers as text, in the order of `COLUMNS`."""
    return [
        str(record.iteration),
        record.phase,
        record.step,
        f"{record.loss:.6e}",
        f"{record.decrement:.2e}",
        f"{record.radius:.2g}",
        f"{record.data_passes:.2f}",
        f"{record.seconds:.2f}",
    ]


def format_line(record: IterationRecord, remaining: Remaining | None) -> str:
    """Return the record as one line of plain text.

    Examples
    --------
    >>> from dresoftmax import IterationRecord
    >>> record = IterationRecord(
    ...     iteration=4, phase="full", step="newton", loss=3.1e-5, gradient_norm=2e-7,
    ...     decrement=4.2e-6, alpha=1.7e4, step_norm=0.03, radius=1.5, candidates=3,
    ...     rows_read=16384, rows_sketched=16384, data_passes=3.17, seconds=0.214,
    ... )
    >>> format_line(record, Remaining(2, 0.1))
    'iteration 4, full, newton: loss 3.100000e-05, decrement 4.20e-06, radius 1.5, 3.17 passes, 0.21 s; about 2 iterations, 0.1 s left'
    """  # noqa: E501
    number, phase, step, loss, decrement, radius, passes, seconds = format_cells(record)
    line = (
        f"iteration {number}, {phase}, {step}: loss {loss}, decrement {decrement}, "
        f"radius {radius}, {passes} passes, {seconds} s"
    )
    return f"{line}; {remaining}" if remaining else line


def format_seconds(seconds: float) -> str:
    """Return a duration in a unit that suits its size.

    Examples
    --------
    >>> [format_seconds(value) for value in (0.123, 12.3, 200, 9000)]
    ['0.1 s', '12 s', '3.3 min', '2.5 h']
    """
    if seconds < 10:
        return f"{seconds:.1g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
