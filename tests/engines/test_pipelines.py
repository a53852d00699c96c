"""Solves as parts of something larger: at once, inside tasks, beside an event loop.

None waits for another for ever, none gets another's answer, and none leaves anything
behind: on the cluster, or in the user's settings.
"""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import local_cluster
from distributed import Client, SchedulerPlugin, get_client, wait, worker_client
from helpers.faults import wait_until
from helpers.loaded import assert_same, lazy, problem_of, solve
from helpers.problems import synthetic
from threadpoolctl import threadpool_info

from dresoftmax.engines.threads import cores

pytestmark = [pytest.mark.usefixtures("samples"), pytest.mark.timeout(60)]


def problems(count):
    return [synthetic(n=2000, d=4, cond=10.0, seed=seed, w="vector") for seed in range(count)]


def solve_lazily(problem, **options):
    return solve(problem.with_data(A=lazy(problem.A, 200)), **options)


def alone(problem):
    """Solve in this process, which NumPy input never leaves."""
    return solve(problem)


@pytest.fixture(scope="module")
def single():
    """Give a client of one worker with one thread: whatever waits in it can block it."""
    with local_cluster(1) as client:
        yield client


# --- at once ---------------------------------------------------------------------


def test_many_solves_at_once_each_get_their_own_answer(client):
    each = problems(6)
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(partial(solve_lazily, client=client), each))
    for result, problem in zip(results, each, strict=True):
        assert_same(result, alone(problem))


# --- inside tasks ----------------------------------------------------------------


def with_worker_client(problem):
    with worker_client() as client:
        return solve_lazily(problem, client=client)


def with_get_client(problem):
    return solve_lazily(problem, client=get_client())


TASKS = {"worker_client": with_worker_client, "get_client": with_get_client, "bare": solve_lazily}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_tasks_solve_on_the_cluster_that_they_run_on(single, task):
    """More of them than there are threads, each waiting for tasks of the same worker."""
    each = problems(3)
    for result, problem in zip(single.gather(single.map(task, each)), each, strict=True):
        assert_same(result, alone(problem))
    assert threads_of(single) == 1


def test_a_task_that_fails_gives_its_thread_back(single):
    problem = problems(1)[0]
    bad = problem.A.copy()
    bad[1234, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        single.submit(solve_lazily, problem.with_data(A=bad)).result()
    assert threads_of(single) == 1
    assert single.submit(abs, -1).result() == 1


def threads_of(client):
    """Count the threads that run the tasks of the one worker, when all is quiet."""
    counts = client.run(lambda dask_worker: len(dask_worker.executors["default"]._threads))
    return sum(counts.values())


def test_a_task_with_rows_of_its_own_takes_one_thread(single):
    problem = problems(1)[0]
    assert_same(single.submit(solve, problem).result(), alone(problem))
    assert single.submit(cores).result() == 1


# --- beside an event loop ----------------------------------------------------------


@pytest.mark.parametrize("persisted", [False, True])
def test_an_asynchronous_client(single, persisted):
    """The loop goes on while the solve runs in a thread."""
    problem = problem_of()

    async def main():
        address = single.scheduler.address
        async with Client(address, asynchronous=True, set_as_default=False) as client:
            A = lazy(problem.A)
            if persisted:
                A = client.persist(A)
            solving = asyncio.create_task(
                asyncio.to_thread(solve, problem.with_data(A=A), client=client)
            )
            ticks = 0
            while not solving.done():
                await asyncio.sleep(0.01)
                ticks += 1
            return await solving, ticks

    result, ticks = asyncio.run(main())
    assert_same(result, alone(problem))
    assert ticks > 2


@pytest.mark.parametrize("passed", [True, False])
def test_the_event_loop_itself_is_not_blocked(single, passed):
    problem = problem_of()

    async def main():
        async with Client(single.scheduler.address, asynchronous=True) as client:
            solve_lazily(problem, client=client if passed else None)

    with pytest.raises(TypeError, match=r"await asyncio.to_thread\(dresoftmax.solve, A, b, client"):
        asyncio.run(main())


# --- what is left, and what is seen ------------------------------------------------


def books(client):
    """Return what the cluster holds: keys, bytes, and clients."""
    return client.run_on_scheduler(
        lambda dask_scheduler: (
            sorted(map(str, dask_scheduler.tasks)),
            sum(worker.nbytes for worker in dask_scheduler.workers.values()),
            sorted(dask_scheduler.clients),
        )
    )


def interrupt(record):
    raise KeyboardInterrupt


def fail(record):
    raise RuntimeError("of the callback")


def worn_out(block):
    raise RuntimeError("of the data")


ENDS = {
    "converged": ({}, None),
    "error": ({"callback": fail}, RuntimeError),
    "interrupted": ({"callback": interrupt}, KeyboardInterrupt),
    "loaded": ({"persist": False}, None),
    "loaded, interrupted": ({"persist": False, "callback": interrupt}, KeyboardInterrupt),
    "of the data": ({}, RuntimeError),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_memory_of_the_cluster_is_what_it_was(client, end):
    """Also while somebody keeps the error, and with it all that was on the stack."""
    problem = problem_of()
    A = lazy(problem.A)
    if end == "of the data":
        A = A.map_blocks(worn_out, meta=A._meta)
    users = client.persist(da.arange(1000, chunks=100))
    wait(users)
    before = books(client)
    assert before[1] == 8000
    options, error = ENDS[end]
    kept = None
    try:
        solve(problem.with_data(A=A), client=client, **options)
    except (RuntimeError, KeyboardInterrupt) as raised:
        kept = raised
    assert wait_until(lambda: books(client) == before, 10), books(client)
    assert type(kept) is (error or type(None))


def settings():
    """Return what a solve might change of its process for good."""
    loggers = [logging.getLogger(name) for name in ("", *logging.root.manager.loggerDict)]
    return {
        "dask": deepcopy(dask.config.config),
        "numpy": np.geterr(),
        "BLAS": [pool["num_threads"] for pool in threadpool_info()],
        "logging": {each.name: (each.level, repr(each.handlers)) for each in loggers},
        "filters": repr(warnings.filters),
    }


@pytest.mark.parametrize("end", ["converged", "interrupted"])
def test_the_settings_are_what_they_were(client, end):
    options, _ = ENDS[end]
    solve_lazily(problem_of(), client=client)  # imports what it needs
    before = settings(), client.run(settings), Client.current()
    with suppress(KeyboardInterrupt):
        solve_lazily(problem_of(), client=client, progress=True, **options)

    def same():
        return (settings(), client.run(settings), Client.current()) == before

    # For good: other threads of this process may be at work on some for a moment.
    assert wait_until(same, 10), [k for k, v in settings().items() if v != before[0][k]]


def test_progress_appears_on_the_client(client, capfd):
    solve_lazily(problem_of(), client=client, progress=True)
    shown = capfd.readouterr().err
    assert shown.count("newton") + shown.count("corrected") > 2
    assert "decrement" in shown


class Names(SchedulerPlugin):
    """Keep the names under which the dashboard shows what is computed."""

    name = "names"

    async def start(self, scheduler):
        self.scheduler, self.seen = scheduler, set()

    def transition(self, key, start, finish, *args, **kwargs):
        if finish == "memory":
            self.seen.add(self.scheduler.tasks[key].prefix.name)


@pytest.mark.parametrize("persist", [None, False])
def test_tasks_have_names_that_read_well(client, persist):
    problem = problem_of()
    client.register_plugin(Names())
    solve_lazily(problem, client=client, persist=persist)
    solve_lazily(problem.with_data(b=lazy(problem.b, 200)), client=client, persist=persist)
    seen = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins["names"].seen)
    client.unregister_scheduler_plugin("names")
    assert {f"dresoftmax-{what}" for what in ("rows", "block", "group", "read", "add")} < seen
    # "array" is Dask's name for A, and for b where it is checked at once
    assert all(re.fullmatch("array|(array-)?dresoftmax-[a-z]+", name) for name in seen), seen
