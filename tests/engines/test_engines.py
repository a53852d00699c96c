"""Round trips: one reduction per iteration, one task per worker, one result.

What was read where is noted by the tasks themselves, on the workers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from itertools import chain

import dask.array as da
import numpy as np
import pytest
from distributed import Client, Future, LocalCluster, get_worker
from helpers.problems import synthetic

import dresoftmax
from dresoftmax.blocks.make import make_block
from dresoftmax.engines import dask as module
from dresoftmax.engines.dask import DaskEngine
from dresoftmax.engines.threads import ThreadsEngine
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Answers
from dresoftmax.reductions.row_sample import draw_sample
from dresoftmax.reductions.totals import Totals, read_totals

pytestmark = pytest.mark.usefixtures("samples")

N = 4000


class Note:
    """A summand that knows which blocks were read where, and where it was added."""

    def __init__(self, reads, additions=()):
        self.reads, self.additions = list(reads), list(additions)

    def __add__(self, other):
        place = (get_worker().address, get_worker().get_current_task())
        additions = [*self.additions, *other.additions, place]
        return Note(self.reads + other.reads, additions)


def note(blocks, threads):
    """Return where this task runs, on which blocks."""
    worker = get_worker()
    assert threads == worker.state.nthreads
    return Note([(worker.address, sorted(block.index for block in blocks))])


class Counted:
    """Run a task on the workers, and bring back with its result what was read there."""

    def __init__(self, task):
        self.task = task

    def __call__(self, blocks, threads):
        return Both(note(blocks, threads), self.task(blocks, threads))


class Both:
    def __init__(self, note, result):
        self.note, self.result = note, result

    def __add__(self, other):
        return Both(self.note + other.note, self.result + other.result)


@pytest.fixture
def reductions(monkeypatch):
    """Give all calls of `reduce`: what was asked for, the rows, and where they were read."""
    calls = []
    reduce = DaskEngine.reduce

    def counted(self, task):
        both = reduce(self, Counted(task))
        of = both.result.each[0] if isinstance(both.result, Answers) else both.result
        rows = of.n if isinstance(of, Totals) else of.rows
        calls.append((getattr(task, "func", task), rows, both.note.reads))
        return both.result

    monkeypatch.setattr(DaskEngine, "reduce", counted)
    return calls


@pytest.fixture
def gathered(monkeypatch):
    """Give all that clients are asked to gather."""
    calls = []
    gather = Client.gather

    def counted(self, futures, *args, **options):
        calls.append(futures)
        return gather(self, futures, *args, **options)

    monkeypatch.setattr(Client, "gather", counted)
    return calls


def solve(chunks, **options):
    problem = synthetic(n=N, d=6, cond=30.0, noise="strong", w="vector")
    A = da.from_array(problem.A, chunks=(chunks, -1))
    result = dresoftmax.solve(A, problem.b, seed=3, tol=1e-10, **problem.options, **options)
    assert result.success
    return result


# --- a solve ---------------------------------------------------------------------

CHUNKS = {"many": 250, "two": 2000, "one": 4000, "uneven": (100, 3000, 0, 900)}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("x0", [None, np.zeros(6)], ids=["sampled", "from x0"])
def test_one_round_trip_per_iteration(client, reductions, gathered, chunks, x0):
    result = solve(chunks, x0=x0)
    full = [record for record in result.history if record.phase == "full"]
    reads = sum(record.rows_read // N for record in full)  # beside those of the sample
    asked = [task for task, _, _ in reductions]
    assert asked == [read_totals, draw_sample, *[evaluate_blocks] * reads]
    # with a sample, predictions are good enough for one read to do
    assert reads <= len(full) + (x0 is not None)
    # all rows are read each time, and counted where they are
    assert {rows for task, rows, _ in reductions if task is not draw_sample} == {N}
    # ... and one result comes back for each
    assert len(gathered) == len(reductions)
    assert all(isinstance(future, Future) for future in gathered)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_one_task_per_worker_reads_all_that_it_holds(client, reductions, chunks):
    solve(chunks)
    count = len(da.core.normalize_chunks((chunks,), (N,))[0])
    for _, _, reads in reductions:
        workers = [worker for worker, _ in reads]
        assert len(workers) == len(set(workers)) <= 2
        assert sorted(index for _, indices in reads for index in indices) == list(range(count))
    if chunks == CHUNKS["many"]:
        assert {len(reads) for _, _, reads in reductions} == {2}


# --- the engine by itself --------------------------------------------------------


def make_slowly(index):
    time.sleep(0.01)
    return make_block(index, np.eye(2), np.ones(2), None)


def place(client, workers):
    """Have blocks made on these workers, and return an engine of them."""
    blocks = [
        client.submit(make_slowly, i, workers=[worker], pure=False)
        for i, worker in enumerate(workers)
    ]
    return closing(DaskEngine(client, lambda: blocks))


def reads_of(engine):
    """Return which blocks each worker reads."""
    return dict(engine.reduce(note).reads)


def workers_of(client):
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


@pytest.mark.parametrize("held", ["ab", "aab", "abba", "babab", "a"])
def test_blocks_that_lie_evenly_are_read_where_they_lie(client, held):
    """Also those that are still being made when they are first asked for."""
    address = dict(zip("ab", workers_of(client), strict=True))
    with place(client, [address[worker] for worker in held]) as engine:
        both = [reads_of(engine) for _ in range(2)]
    expected = {
        address[worker]: [i for i, holder in enumerate(held) if holder == worker]
        for worker in set(held)
    }
    assert both == [expected, expected]


@pytest.mark.parametrize("held", ["aa", "bb", "bbbb", "aaab", "abbbbbb", "a" * 33, "b" * 30 + "aa"])
def test_blocks_that_lie_unevenly_are_shared_out_once(client, held):
    address = dict(zip("ab", workers_of(client), strict=True))
    with place(client, [address[worker] for worker in held]) as engine:
        reads, again = [reads_of(engine) for _ in range(2)]
        holders = client.who_has(engine.held)
    assert again == reads
    assert sorted(chain(*reads.values())) == list(range(len(held)))
    fewer, more = sorted(map(len, reads.values()))
    assert more <= 1 + max(fewer, (1 + module.SLACK) * len(held) / 2)
    # whoever held little keeps it, and each block lies in one place
    lesser = min("ab", key=held.count)
    kept = {i for i, holder in enumerate(held) if holder == lesser}
    assert kept <= set(reads[address[lesser]])
    assert {len(workers) for workers in holders.values()} == {1}


def test_blocks_that_lie_in_two_places_are_shared_out(client):
    first, second = workers_of(client)
    with place(client, [first, second] * 3) as engine:
        engine.reduce(note)  # gathers the blocks into groups
        client.replicate(engine.held)
        parts = [indices for _, indices in engine.reduce(note).reads]
    # which part goes to whom is up to the scheduler, for each lies on both
    assert [len(part) for part in parts] == [3, 3]
    assert sorted(chain(*parts)) == list(range(6))


@pytest.fixture(scope="module")
def seven():
    """Give a client of seven workers, which are threads of this process."""
    options = {"threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(n_workers=7, **options) as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize("workers", range(1, 8))
@pytest.mark.parametrize("fan_in", [2, 3, 7])
def test_partial_results_are_added_in_a_tree_on_the_workers(
    seven, monkeypatch, gathered, fan_in, workers
):
    monkeypatch.setattr("dresoftmax.utils.tree_sum.FAN_IN", fan_in)
    held = workers_of(seven)[:workers]
    with place(seven, held) as engine:
        total = engine.reduce(note)
    assert sorted(total.reads) == [(worker, [i]) for i, worker in enumerate(held)]
    assert len(gathered) == 1
    assert isinstance(gathered[0], Future)
    assert len(total.additions) == workers - 1
    by_task = Counter(task for _, task in total.additions)
    assert max(by_task.values(), default=0) <= fan_in - 1
    assert len(by_task) >= (workers - 1) / (fan_in - 1)


def test_an_error_on_a_worker_reaches_the_caller(client):
    def fail(blocks, threads):
        raise KeyError("on the worker")

    with place(client, workers_of(client)) as engine:
        with pytest.raises(KeyError, match="on the worker"):
            engine.reduce(fail)
        assert len(engine.reduce(note).reads) == 2  # it goes on


def test_threads_read_what_lies_in_this_process():
    blocks = [make_block(i, np.eye(2), np.ones(2), None) for i in range(3)]
    engine = ThreadsEngine(blocks)
    seen, threads = engine.reduce(lambda blocks, threads: (list(blocks), threads))
    assert seen == blocks
    assert threads >= 1
    engine.close()
    assert engine.reduce(lambda blocks, threads: len(blocks)) == 0


# --- reads that overlap in one process -------------------------------------------

# They wait inside for each other; BLAS has three threads to begin with.
WATCHED_READS = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
import numpy as np, scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits
from dresoftmax.blocks.make import make_block
from dresoftmax.reductions.query import Query, Sketch
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.model.units import UNITS

class Watched(list):
    def __getitem__(self, i):
        note()
        self.entered.set()
        assert self.leave.wait(20)
        return super().__getitem__(i)

def note():
    seen.append([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])

seen, order = [], json.loads(sys.argv[1])
(thread := Thread(target=threadpool_limits, args=(3, "blas"))).start(), thread.join()
query = Query(np.zeros((1, 2)), np.zeros(1), np.zeros(1), UNITS["exp+linear"], Sketch("exact"))
note()
with ThreadPoolExecutor(len(order)) as pool:
    blocks, reads = [Watched([make_block(0, np.eye(2), np.ones(2), None)]) for _ in order], []
    for each in blocks:
        each.entered, each.leave = Event(), Event()
        reads.append(pool.submit(evaluate_blocks, [query], each, 1))
        assert each.entered.wait(20)
    for i in order:
        note()
        blocks[i].leave.set()
        reads[i].result()
    note()
print(json.dumps(seen))
"""


@pytest.mark.parametrize("order", [[0], [0, 1, 2], [2, 1, 0]], ids=str)
def test_blas_has_one_thread_during_reads_and_its_own_after_them(order):
    """Also where reads overlap, whichever of them ends last."""
    command = [sys.executable, "-c", WATCHED_READS, json.dumps(order)]
    before, *inside, after = json.loads(subprocess.check_output(command, timeout=60))
    assert set(before) == {3}
    assert all(set(limits) == {1} for limits in inside)
    assert after == before
