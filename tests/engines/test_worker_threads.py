"""A read takes the threads of its worker: all of them, and no more, whoever else reads.

What is computed at the same time is noted where it is computed, in the worker.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import dask.array as da
import pytest
from conftest import local_cluster
from helpers.problems import synthetic
from threadpoolctl import threadpool_info, threadpool_limits

import dresoftmax
from dresoftmax.reductions import evaluate as reads

# What BLAS would take if nobody limited it.
BLAS = 3


class Notes:
    """What this worker has computed at the same time."""

    def __init__(self, together, read_share):
        self.read_share = read_share
        self.lock = threading.Lock()
        self.together = threading.Barrier(together, timeout=20)
        self.active = 0
        self.counts, self.blas = set(), set()

    def __call__(self, query, blocks, share):
        with self.lock:
            self.active += 1
            self.counts.add(self.active)
        # It breaks unless so many are here at once.
        self.together.wait()
        time.sleep(0.005)  # for more of them to come
        if share and query.sketch.kind != "none":
            self.blas |= blas_threads()
        try:
            return self.read_share(query, blocks, share)
        finally:
            self.together.wait()
            with self.lock:
                self.active -= 1


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def watch(together):
    reads._read_share = Notes(together, reads._read_share)
    # Only one living thread may change the limit, and this one lives on.
    setting = threading.Thread(target=threadpool_limits, args=(BLAS, "blas"))
    setting.start()
    setting.join()


def noted():
    notes = reads._read_share
    return notes.counts, notes.blas, blas_threads()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("persist", [None, False], ids=["held", "loaded"])
def test_solves_at_once_read_in_turn_with_all_threads_of_a_worker(threads, persist):
    problem = synthetic(n=60_000, d=4, cond=10.0)
    A = da.from_array(problem.A, chunks=(20_000, -1))
    with local_cluster(1, threads) as client:
        # The threads of a read over what is held begin and end together.
        client.run(watch, threads if persist is None else 1)
        fit = partial(dresoftmax.solve, A, problem.b, client=client, persist=persist)
        with ThreadPoolExecutor(3) as pool:
            solves = [pool.submit(fit, seed=seed, hessian="leverage") for seed in range(3)]
        assert all(solve.result().success for solve in solves)
        ((counts, blas, after),) = client.run(noted).values()
    assert max(counts) == threads
    assert blas == {1}
    assert after == {BLAS}
