"""The command, called as a user calls it, and what its tests ask of the outcome."""

from __future__ import annotations

import numpy as np
from click.testing import CliRunner

import dresoftmax
from dresoftmax.cli import main
from helpers.problems import reference_solution


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_refused(result, *parts):
    """One plain line that holds `parts`, and exit status 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


def assert_solution(path, problem):
    with np.load(path, allow_pickle=False) as saved:
        assert saved["status"] == "CONVERGED"
        np.testing.assert_allclose(saved["x"], reference_solution(problem).x, rtol=1e-6)


def assert_solves(client, problem):
    result = dresoftmax.solve(problem.A, problem.b, seed=0, client=client)
    np.testing.assert_allclose(result.x, reference_solution(problem).x, rtol=1e-6)
