"""What a result says about its solve: every number in it is true and adds up.

Numbers of the result are recomputed from x by automatic differentiation; numbers
of the history are checked against each other and against the callback.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import autograd
import dask.array as da
import numpy as np
import pandas
import pytest
from helpers.problems import UNITS, alpha, reference_solution, synthetic

import dresoftmax
from dresoftmax import Status

STEPS = {
    "start", "newton", "boundary", "stretched", "corrected", "anchor", "rejected", "unread"
}  # fmt: skip
HESSIANS = ["exact", "leverage", "uniform", "countsketch", "auto"]


def hard():
    """Make a problem of a dozen iterations, some of them on a sample of the rows."""
    return synthetic(n=4000, d=8, cond=100.0, noise="strong", w="vector", ridge=True)


def solve(problem, **options):
    options = {"seed": 0, **problem.options, **options}
    return dresoftmax.solve(problem.A, problem.b, **options)


def full(result):
    return [record for record in result.history if record.phase == "full"]


# --- the result ------------------------------------------------------------------


@pytest.mark.parametrize("stop", [{"max_iter": 2}, {"tol": 1e-3}, {"tol": 1e-8}], ids=str)
@pytest.mark.parametrize("unit", UNITS)
def test_every_number_belongs_to_the_point_returned(unit, stop):
    """Also where the solve ends early, far from the optimum."""
    problem = synthetic(n=1000, d=6, cond=30.0, noise="strong", unit=unit, w="vector", ridge=True)
    result = solve(problem, **stop)
    np.testing.assert_allclose(result.fun, problem.loss(result.x), rtol=1e-12)
    np.testing.assert_allclose(result.alpha, alpha(problem.A, result.x, unit), rtol=1e-10)
    scale = np.linalg.norm(autograd.jacobian(problem.residuals)(result.x))
    gradient = problem.gradient(result.x)
    np.testing.assert_allclose(
        result.jac, gradient, rtol=1e-9, atol=1e-13 * scale * np.linalg.norm(problem.b)
    )


@pytest.mark.parametrize("unit", UNITS)
def test_decrement_and_error_estimate_are_those_of_the_newton_step(unit):
    problem = synthetic(n=1000, d=6, cond=30.0, noise="strong", unit=unit)
    result = solve(problem, tol=1e-3, hessian="exact")
    step = np.linalg.solve(problem.hessian(result.x), problem.gradient(result.x))
    decrement = np.sqrt(step @ problem.gradient(result.x))
    assert decrement > 1e-12  # far enough from the optimum to be comparable
    np.testing.assert_allclose(result.decrement, decrement, rtol=0.05)
    np.testing.assert_allclose(result.x_error_estimate, np.linalg.norm(step), rtol=0.05)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
def test_convergence_means_a_decrement_below_tol_times_norm_b(tol):
    problem = hard()
    result = solve(problem, tol=tol)
    assert result.status is Status.CONVERGED
    threshold = tol * np.linalg.norm(problem.b)
    assert result.decrement <= threshold
    step = np.linalg.solve(problem.hessian(result.x), problem.gradient(result.x))
    # the Hessian may be a sketch; its decrement is right within a factor of two
    assert np.sqrt(step @ problem.gradient(result.x)) <= 2 * threshold


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("tol", [1e-6, 1e-8])
@pytest.mark.parametrize("noise", ["mild", "strong"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_last_point_that_was_not_read_is_where_it_was_foreseen(unit, noise, tol):
    """Its decrement is a bound, and its numbers are off by no more than that."""
    unread = 0
    for seed in range(8):
        problem = synthetic(n=6000, d=6, cond=30.0, noise=noise, unit=unit, seed=seed)
        result = solve(problem, seed=seed, tol=tol)
        assert result.success
        last = result.history[-1]
        unread += last.step == "unread"
        H, g = problem.hessian(result.x), problem.gradient(result.x)
        rounding = 1e-13 * np.linalg.norm(problem.b)
        assert np.sqrt(g @ np.linalg.solve(H, g)) <= result.decrement * 1.05 + rounding
        off = result.jac - g
        assert np.sqrt(off @ np.linalg.solve(H, off)) <= result.decrement + rounding
        loss = problem.loss(result.x)
        assert abs(result.fun - loss) <= result.decrement**2 + 1e-10 * loss
        assert last.decrement == result.decrement <= tol * np.linalg.norm(problem.b)
    assert unread > 0, "every last point was read: the test says nothing"


def test_the_result_is_frozen_complete_and_printable():
    result = solve(synthetic())
    assert result.rank == 5
    assert type(result.status) is Status
    assert result.jac.shape == result.x.shape == (5,)
    assert {"CONVERGED", "data_passes:"} <= set(repr(result).split())
    assert result.message.strip()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.fun = 0.0


# --- the history -----------------------------------------------------------------


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("hessian", HESSIANS)
def test_history_adds_up(hessian):
    problem = hard()
    result = solve(problem, hessian=hessian, tol=1e-10)
    history, n = result.history, len(problem.b)
    assert [r.iteration for r in history] == list(range(len(history)))

    assert {r.phase for r in history} <= {"sample", "full"}
    assert history[-1].phase == "full"
    assert {r.step for r in history} <= STEPS
    assert all((r.rows_read == 0) == (r.step == "unread") for r in history)
    assert history[0].step == "start"

    rows = np.cumsum([r.rows_read for r in history])
    np.testing.assert_allclose([r.data_passes for r in history], rows / n, rtol=1e-12)
    np.testing.assert_allclose(result.data_passes, rows[-1] / n, rtol=1e-12)
    assert all(0 <= r.rows_sketched <= n and r.candidates >= 1 for r in history)
    assert all(np.diff([r.seconds for r in history]) >= 0)
    assert 0 < result.nit <= len(full(result))


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("hessian", HESSIANS)
def test_the_loss_never_rises_over_all_rows(hessian):
    result = solve(hard(), hessian=hessian, tol=1e-10)
    losses = np.array([r.loss for r in full(result)])
    assert len(losses) > 2
    # at the end the loss moves by less than its rounding
    assert all(np.diff(losses) <= 1e-12 * losses[:-1])


def test_a_rejected_iteration_stays_where_it_was():
    """Trust radii far too long for b, which has little to do with A."""
    rng = np.random.default_rng(2)
    problem = synthetic(n=60, d=6, cond=100.0, unit="exp")
    rejected = 0
    for seed in range(30):
        b = rng.dirichlet(np.full(60, 0.1))
        history = full(solve(problem.with_data(A=30 * problem.A, b=b), seed=seed, max_iter=40))
        for before, record in pairwise(history):
            if record.step == "rejected":
                rejected += 1
                assert record.loss == before.loss
                assert record.radius < before.radius
            else:
                assert record.step_norm > 0
    assert rejected > 0, "no iteration was rejected: the problems are too easy"


def test_the_last_record_describes_the_result():
    result = solve(hard(), tol=1e-4)
    last = result.history[-1]
    np.testing.assert_allclose(last.loss, result.fun, rtol=1e-12)
    np.testing.assert_allclose(last.gradient_norm, np.linalg.norm(result.jac), rtol=1e-9)
    np.testing.assert_allclose(last.decrement, result.decrement, rtol=1e-9)
    np.testing.assert_allclose(last.alpha, result.alpha, rtol=1e-12)


def test_pandas_takes_the_history_as_it_is():
    result = solve(hard())
    frame = pandas.DataFrame(result.history)
    assert len(frame) == len(result.history)
    assert {"iteration", "phase", "step", "loss", "decrement", "rows_read"} <= set(frame.columns)
    assert frame["loss"].dtype == float
    assert frame["rows_read"].dtype.kind == "i"


@pytest.mark.usefixtures("samples")
def test_every_newton_step_reads_all_rows_once():
    problem = hard()
    lazy = problem.with_data(A=da.from_array(problem.A, chunks=(500, 8)))
    for form in (problem, lazy):
        result = solve(form, tol=1e-10)
        assert {r.rows_read for r in full(result) if r.step != "unread"} == {len(problem.b)}
        assert result.nit <= len(full(result)) <= result.nit + 1  # the start is no step


def test_a_sample_of_rows_saves_reads_of_all_rows():
    problem = synthetic(n=130_000, d=4, noise="strong")
    result = solve(problem)
    sampled = [r.rows_read for r in result.history if r.phase == "sample"]
    assert sampled, "520,000 entries are enough to begin on a sample"
    assert sum(sampled) < 1.5 * len(problem.b)
    assert result.data_passes < 5


# --- stopping and watching -------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2])
def test_max_iter_is_respected_and_is_no_success(limit):
    result = solve(hard(), max_iter=limit, tol=1e-13)
    assert result.status is Status.ITERATION_LIMIT
    assert result.success is False
    assert result.nit <= limit
    assert "max_iter" in result.message or "iteration" in result.message.lower()


def test_no_iteration_at_all_evaluates_the_start():
    problem = synthetic(n=500, unit="exp", ridge=True)
    x0 = 0.9 * reference_solution(problem).x
    result = solve(problem, x0=x0, max_iter=0)
    assert result.status is Status.ITERATION_LIMIT
    assert result.nit == 0
    np.testing.assert_array_equal(result.x, x0)
    np.testing.assert_allclose(result.fun, problem.loss(x0), rtol=1e-12)


@pytest.mark.usefixtures("samples")
def test_the_callback_sees_every_record_as_it_happens():
    seen = []
    result = solve(hard(), callback=seen.append)
    assert result.success
    assert seen == result.history


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("at", [1, 2, 4])
def test_the_callback_stops_the_solve(at):
    seen = []
    problem = hard()
    result = solve(problem, callback=lambda record: seen.append(record) or len(seen) == at)
    assert result.status is Status.CALLBACK_STOP
    assert result.success is False
    # a stop in the sample phase is followed by one read of all rows, for the result
    assert at <= len(result.history) <= at + 1
    assert seen == result.history, "every record is seen"
    assert np.isfinite(result.x).all()
    np.testing.assert_allclose(result.fun, problem.loss(result.x), rtol=1e-12)


def test_an_exception_of_the_callback_reaches_the_caller():
    def fail(record):
        raise KeyError("from the callback")

    with pytest.raises(KeyError, match="from the callback"):
        solve(synthetic(), callback=fail)


@pytest.mark.usefixtures("samples")
def test_observation_does_not_alter_the_solve(capsys):
    problem = hard()
    watched = solve(problem, callback=lambda record: None, progress=True)
    np.testing.assert_array_equal(watched.x, solve(problem).x)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("hessian", HESSIANS)
def test_same_seed_same_answer_bit_for_bit(hessian):
    problem = synthetic(n=3000, d=8, noise="strong")
    lazy = problem.with_data(A=da.from_array(problem.A, chunks=(700, 8)))
    first, again = (solve(lazy, hessian=hessian, sketch_size=300, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.x, again.x)
    assert [(r.loss, r.rows_sketched) for r in first.history] == [
        (r.loss, r.rows_sketched) for r in again.history
    ]


def test_another_seed_draws_another_sketch():
    problem = synthetic(n=3000, d=8, noise="strong")
    first, other = (
        solve(problem, hessian="uniform", sketch_size=300, seed=seed) for seed in (1, 2)
    )
    assert [r.rows_sketched for r in first.history] != [r.rows_sketched for r in other.history]
