"""The same solve on a cluster of processes: same answer, one read per step, nothing left.

Answers are compared with the solve in this process; what the cluster was asked to
do is read from its own books (scheduler and files), not from the package.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from conftest import local_cluster
from distributed import Client
from helpers.loaded import assert_same, solve
from helpers.problems import UNITS, counted, loads, reference_solution, sparse, synthetic

import dresoftmax
from dresoftmax import Status
from dresoftmax.fit import hessian_policy

pytestmark = pytest.mark.usefixtures("samples")

HESSIANS = ["exact", "leverage", "uniform", "countsketch", "auto"]


def problem_of(unit="exp+linear"):
    return synthetic(n=4000, d=6, cond=30.0, unit=unit, noise="strong", w="vector")


def lazy(problem, rows=500):
    A = da.from_array(problem.A, chunks=(rows, -1), asarray=False)
    return problem.with_data(A=A)


def work_done(client):
    """Transitions that the scheduler has made since it started."""
    return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)


def keys_held(client):
    return client.run_on_scheduler(lambda dask_scheduler: [str(k) for k in dask_scheduler.tasks])


def wait_until(condition, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


# --- the same answer -------------------------------------------------------------


@pytest.fixture(scope="module")
def in_threads():
    """Solutions in this process, made before any client exists."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hessian_policy, "LEAST_ENTRIES", 0)
        return {
            (unit, hessian): solve(lazy(problem_of(unit)), hessian=hessian)
            for unit in UNITS
            for hessian in HESSIANS
        }


@pytest.mark.parametrize("hessian", HESSIANS)
@pytest.mark.parametrize("unit", UNITS)
def test_threads_and_processes_agree(in_threads, client, unit, hessian):
    before = work_done(client)
    result = solve(lazy(problem_of(unit)), hessian=hessian)
    assert work_done(client) > before, "the current client was not used"
    assert_same(result, in_threads[unit, hessian])
    assert result.hessian_kind == in_threads[unit, hessian].hessian_kind


@pytest.mark.parametrize("hessian", ["leverage", "countsketch"])
def test_randomness_belongs_to_seed_and_blocks_not_to_workers(in_threads, client, hessian):
    """The very same rows are drawn wherever they lie, iteration by iteration."""
    result = solve(lazy(problem_of()), hessian=hessian)
    here = in_threads["exp+linear", hessian]
    drawn = [(r.phase, r.rows_sketched) for r in result.history]
    assert drawn == [(r.phase, r.rows_sketched) for r in here.history]
    np.testing.assert_allclose(
        [r.loss for r in result.history], [r.loss for r in here.history], rtol=1e-9
    )


def test_the_number_of_workers_does_not_matter(client):
    problem = lazy(problem_of())
    two = solve(problem, client=client, hessian="leverage", sketch_size=500)
    with local_cluster(1) as single:
        one = solve(problem, client=single, hessian="leverage", sketch_size=500)
    assert_same(one, two)
    assert [r.rows_sketched for r in one.history] == [r.rows_sketched for r in two.history]


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
def test_sparse_blocks_travel(client, form):
    problem = sparse()
    reference = reference_solution(problem)
    result = solve(lazy(problem.with_data(A=form(problem.A)), rows=300))
    assert result.status is Status.CONVERGED
    assert np.linalg.norm(result.x - reference.x) <= 1e-8 * np.linalg.norm(reference.x)


# --- where the data come from ----------------------------------------------------

TARGETS = {
    "numpy": lambda b: b,
    "same chunks": lambda b: da.from_array(b, chunks=500),
    "other chunks": lambda b: da.from_array(b, chunks=(1, 1999, 700, 1300)),
    "one chunk": lambda b: da.from_array(b, chunks=-1),
}


@pytest.mark.parametrize("form", TARGETS.values(), ids=TARGETS)
def test_b_follows_the_rows_of_A(client, form):
    problem = problem_of()
    result = solve(lazy(problem).with_data(b=form(problem.b), w=form(problem.w)))
    assert_same(result, reference_result(problem))


def reference_result(problem):
    """Solve in this process, which NumPy input never leaves."""
    return solve(problem, hessian="exact")


def test_numpy_input_stays_in_this_process_unless_a_client_is_passed(client):
    problem = problem_of()
    assert keys_settled(client)
    before = work_done(client)
    here = solve(problem)
    assert work_done(client) == before
    there = solve(problem, client=client)
    assert work_done(client) > before
    assert_same(there, here)


@pytest.mark.parametrize("empty", [(0, 4000), (2000, 0, 2000), (4000, 0)], ids=str)
def test_a_worker_without_rows_waits_for_the_others(client, empty):
    problem = problem_of()
    assert_same(solve(lazy(problem, rows=empty)), reference_result(problem))


def test_more_workers_than_blocks(client):
    problem = problem_of()
    assert_same(solve(lazy(problem, rows=-1)), reference_result(problem))


@pytest.mark.parametrize("blocks", [8, 80])
def test_every_block_is_loaded_exactly_once(client, tmp_path, blocks):
    """Checking, grouping, sampling and iterating all use the blocks that were loaded once."""
    problem = problem_of()
    result = solve(problem.with_data(A=counted(problem.A, 4000 // blocks, tmp_path)))
    assert_same(result, reference_result(problem))
    assert loads(tmp_path) == [1] * blocks


def test_persisted_blocks_are_used_where_they_are(client, tmp_path):
    problem = problem_of()
    A = counted(problem.A, 500, tmp_path).persist()
    assert_same(solve(problem.with_data(A=A)), reference_result(problem))
    # the user's blocks are still there
    np.testing.assert_array_equal(A[:700].compute(), problem.A[:700])
    assert loads(tmp_path) == [1] * 8


def test_two_solves_at_once_do_not_disturb_each_other(client):
    problems = [problem_of(unit) for unit in UNITS]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(partial(solve, client=client), map(lazy, problems)))
    for result, problem in zip(both, problems, strict=True):
        assert_same(result, reference_result(problem))


# --- one read per step -----------------------------------------------------------


def test_one_read_of_all_rows_per_newton_step(client):
    """Counted where the rows are read.  This is the place for the round-trip hook."""
    problem = problem_of()
    result = solve(lazy(problem))
    full = [record for record in result.history if record.phase == "full"]
    assert {record.rows_read for record in full if record.step != "unread"} == {4000}
    assert result.nit <= len(full) <= result.nit + 1
    total = sum(record.rows_read for record in result.history)
    np.testing.assert_allclose(result.data_passes, total / 4000, rtol=1e-12)


def test_tasks_do_not_multiply_with_blocks_and_iterations(client):
    """A read is a task per worker and a reduction, not a task per block."""
    problem = problem_of()
    blocks = 200
    tasks = f"count-{uuid.uuid4().hex}"

    def start(dask_scheduler):
        from distributed.diagnostics.plugin import SchedulerPlugin

        class Counter(SchedulerPlugin):
            name, done = tasks, 0

            def transition(self, key, start, finish, *args, **kwargs):
                self.done += (start, finish) == ("processing", "memory")

        dask_scheduler.add_plugin(Counter())

    def stop(dask_scheduler):
        done = dask_scheduler.plugins[tasks].done
        dask_scheduler.remove_plugin(name=tasks)
        return done

    client.run_on_scheduler(start)
    result = solve(lazy(problem, rows=4000 // blocks))
    done = client.run_on_scheduler(stop)
    reads = len(result.history)
    assert reads > 6
    assert done <= 5 * blocks + 10 * reads


# --- what goes wrong, and what is left -------------------------------------------


@pytest.mark.timeout(60)
@pytest.mark.parametrize("at", ["start", "full"])
def test_a_killed_worker_costs_time_and_nothing_else(at):
    """SIGKILL as soon as the first record of a kind is seen; blocks are rebuilt."""
    problem = problem_of()
    expected = reference_result(problem)
    with local_cluster(2) as client:
        victims = list(client.run(os.getpid).values())[:1]

        def kill(record):
            if victims and at in (record.step, record.phase):
                os.kill(victims.pop(), signal.SIGKILL)

        result = solve(lazy(problem, rows=200), callback=kill)
    assert not victims
    assert_same(result, expected)


def keys_settled(client):
    return wait_until(lambda: not keys_held(client))


OUTCOMES = {
    "converged": {},
    "iteration limit": {"max_iter": 1},
    "stopped": {"callback": lambda record: True},
}


@pytest.mark.parametrize("options", OUTCOMES.values(), ids=OUTCOMES)
def test_nothing_is_left_on_the_cluster(client, options):
    assert keys_settled(client), keys_held(client)
    result = solve(lazy(problem_of()), **options)
    assert keys_settled(client), keys_held(client)
    assert not client.futures
    assert np.isfinite(result.x).all()


def test_nothing_is_left_after_an_error(client):
    def fail(record):
        raise KeyError("from the callback")

    with pytest.raises(KeyError):
        solve(lazy(problem_of()), callback=fail)
    bad = problem_of().A.copy()
    bad[3456, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        solve(lazy(problem_of().with_data(A=bad)))
    assert keys_settled(client), keys_held(client)


def test_the_users_settings_are_unchanged(client):
    def state():
        return {
            "dask": deepcopy(dask.config.config),
            "numpy": np.geterr(),
            "environment": dict(os.environ),
            "random": np.random.get_state()[1].tolist(),  # noqa: NPY002 (the global one)
        }

    def everywhere():
        workers = client.run(lambda: {"numpy": np.geterr(), "cwd": str(Path.cwd())})
        return state(), workers, Client.current() is client

    before = everywhere()
    assert solve(lazy(problem_of())).success
    assert everywhere() == before


def test_numpy_rows_stay_here_and_a_target_on_the_cluster_comes_to_them(client):
    problem = synthetic(n=500)
    b = da.from_array(problem.b, chunks=100).persist()
    result = dresoftmax.solve(problem.A, b, seed=0)
    np.testing.assert_array_equal(result.x, dresoftmax.solve(problem.A, problem.b, seed=0).x)


def test_what_was_measured_is_held_until_the_blocks_know_of_it(client, monkeypatch):
    """Chunks of unknown length are computed first, and Dask forgets them if it is given time."""
    compute = Client.compute

    def late(self, *args, **options):
        time.sleep(0.2)
        return compute(self, *args, **options)

    monkeypatch.setattr(Client, "compute", late)
    problem = lazy(problem_of())
    A = problem.A[problem.A[:, 0] < np.inf]
    assert np.isnan(A.shape[0])
    assert_same(solve(problem.with_data(A=A), client=client), solve(problem_of()))
