"""What is shown while a solve runs: the estimate, and the three ways of drawing."""

from __future__ import annotations

import io
import math
import sys
import time
import types

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from dresoftmax import IterationRecord
from dresoftmax.progress import Progress, Remaining, estimate_remaining


def record(iteration, decrement, step="newton", phase="full", seconds=None):
    return IterationRecord(
        iteration=iteration,
        phase=phase,
        step=step,
        loss=1e-3 + decrement,
        gradient_norm=decrement,
        decrement=decrement,
        alpha=100.0,
        step_norm=0.1,
        radius=1.0,
        candidates=1,
        rows_read=100,
        rows_sketched=100,
        data_passes=float(iteration + 1),
        seconds=2.0 * iteration if seconds is None else seconds,
    )


def newton_steps(*decrements):
    steps = ["start"] + ["newton"] * len(decrements)
    return [record(i, value, steps[i]) for i, value in enumerate(decrements)]


# --- the estimate ----------------------------------------------------------------


def test_quadratic_contraction_doubles_its_digits():
    history = newton_steps(1e-1, 1e-2, 1e-4)
    assert estimate_remaining(history, 1e-8) == Remaining(1, 2.0)
    assert estimate_remaining(history, 1e-20) == Remaining(3, 6.0)


def test_linear_contraction_keeps_its_pace():
    assert estimate_remaining(newton_steps(1e-2, 1e-3, 1e-4), 1e-8) == Remaining(4, 8.0)


def test_only_the_last_iterations_count():
    history = newton_steps(1e9, 1e8, 1e-2, 1e-3, 1e-4)
    assert estimate_remaining(history, 1e-8) == Remaining(4, 8.0)


@given(st.floats(0.01, 0.4), st.floats(1e-4, 0.3), st.floats(1e-12, 1e-5), st.sampled_from([1, 2]))
def test_the_estimate_is_exact_where_the_model_is(first, factor, target, order):
    """δ ← factor·δ, or δ ← δ²."""
    decrements = [first]
    while decrements[-1] > target:
        decrements.append(decrements[-1] * factor if order == 1 else decrements[-1] ** 2)
    assume(len(decrements) > 3)
    # rounding decides whether the target itself is met
    assume(all(abs(math.log(value / target)) > 1e-6 for value in decrements))
    estimate = estimate_remaining(newton_steps(*decrements[:3]), target)
    assert estimate is not None
    assert estimate.iterations == len(decrements) - 3


@pytest.mark.parametrize(
    "history",
    [
        newton_steps(),
        newton_steps(1e-1, 1e-2),
        newton_steps(1e-3, 1e-2, 1e-1),
        newton_steps(1e-2, 1e-3, 1e-3),
        newton_steps(1e-2, 1e-5, 0.9e-5),
        newton_steps(math.inf, 1e-2, 1e-3),
        newton_steps(1e-2, 1e-3, math.nan),
        newton_steps(1e-2, 1e-3, 0.0),
        [*newton_steps(1e-1, 1e-2), record(2, 1e-3, "boundary")],
        [*newton_steps(1e-1, 1e-2), record(2, 1e-2, "rejected")],
        [record(i, 10.0**-i, phase="sample") for i in range(3)],
        [record(0, 1e-1, phase="sample"), *newton_steps(1e-2, 1e-3)],
    ],
)
def test_no_estimate_rather_than_a_wrong_one(history):
    assert estimate_remaining(history, 1e-8) is None


def test_no_estimate_without_a_target():
    assert estimate_remaining(newton_steps(1e-1, 1e-2, 1e-3), 0.0) is None


def test_no_estimate_at_the_target():
    assert estimate_remaining(newton_steps(1e-1, 1e-4, 1e-9), 1e-8) is None


def test_one_iteration_is_singular():
    assert str(Remaining(1, 90.0)) == "about 1 iteration, 90 s left"


# --- drawing ---------------------------------------------------------------------


class Terminal(io.StringIO):
    """A stream that rich takes for a terminal of 100×12 characters."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Set what a terminal usually says of itself, whatever runs the tests."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def draw(history, file, **options):
    with Progress(1e-8, Console(file=file, width=100, height=12, **options)) as progress:
        for item in history:
            assert progress(item) is None
        if isinstance(file, Terminal):
            time.sleep(0.3)  # a thread draws, eight times a second
        while_it_ran = file.getvalue()
    return while_it_ran, file.getvalue()


def last_view(text):
    """Return what was drawn since the header was drawn last."""
    return text[text.rindex("phase") :]


@pytest.mark.parametrize("variable", ["", "FORCE_COLOR"])
def test_plain_lines_where_there_is_no_terminal(variable, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, "1")
    _, text = draw(newton_steps(1e-1, 1e-2, 1e-3), io.StringIO())
    lines = text.splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert lines[0].startswith("iteration 0, full, start: loss 1.010000e-01, decrement 1.00e-01")
    assert "left" not in lines[1]
    assert lines[2].endswith("; about 5 iterations, 10 s left")


def test_plain_lines_on_a_dumb_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    _, text = draw(newton_steps(1e-1, 1e-2, 1e-3), Terminal())
    assert text.count("\n") == 3
    assert "\x1b" not in text


def test_the_live_table_fits_the_terminal_while_it_runs():
    text, _ = draw(newton_steps(*(10.0**-i for i in range(30))), Terminal())
    view = last_view(text)
    assert "1.00e-29" in view
    assert "1.00e-10" not in view
    assert view.count("\n") < 12


def test_the_live_table_says_what_is_left():
    text, _ = draw(newton_steps(1e-1, 1e-2, 1e-3), Terminal())
    assert "solving … about 5 iterations, 10 s left" in last_view(text)


def test_the_live_table_ends_with_every_row():
    history = newton_steps(*(10.0**-i for i in range(30)))
    _, text = draw(history, Terminal())
    view = last_view(text)
    assert all(f"{item.decrement:.2e}" in view for item in history)
    assert "solving" not in view


def test_a_notebook_cell_is_renewed_not_repeated(monkeypatch):
    shown = []

    class Handle:
        def update(self, table):
            shown.append(("update", table.row_count))

    def display(table, display_id):
        assert display_id is True
        shown.append(("display", table.row_count))
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    draw(newton_steps(1e-1, 1e-2), io.StringIO(), force_jupyter=True)
    assert shown == [("display", 1), ("update", 2), ("update", 2)]


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_stream_that_fails_does_not_reach_the_solve(kind):
    class Failing(kind):
        def write(self, text):
            raise OSError("Input/output error")

    before = sys.stdout, sys.stderr
    draw(newton_steps(1e-1, 1e-2), Failing())
    assert (sys.stdout, sys.stderr) == before


def test_errors_of_the_solve_pass_through():
    def interrupted():
        with Progress(1e-8, Console(file=io.StringIO())):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
