"""What fails while a solve runs costs a read and the loading of what is lost, no more.

All of it is done for real, to processes and connections.  The answer and the steps are
those of the solve that nothing disturbs; what a fault costs is counted in blocks that
were loaded and read, never in seconds.
"""

from __future__ import annotations

import gc
import threading
import time
from functools import partial

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import local_cluster
from distributed import Client, KilledWorker
from distributed.comm import CommClosedError
from helpers.faults import Proxy, Watched, die, linger, wait_until
from helpers.loaded import problem_of, sketching
from helpers.loaded import solve as solve_plainly
from helpers.problems import counted, loads

pytestmark = [
    pytest.mark.usefixtures("samples"),
    pytest.mark.timeout(60),
    # Dask leaves the sockets of connections that broke to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

ROWS, BLOCKS = 200, 20
# In the reads of all rows; the loads for the sample and the first look come before.
SECOND_READ = 2

solve = partial(solve_plainly, **sketching("leverage"))


@pytest.fixture(autouse=True)
def collected():
    """Have what broken connections leave behind collected here, and not in another test."""
    yield
    gc.collect()


@pytest.fixture(scope="module", autouse=True)
def undisturbed():
    """Solve in this process, before there is any client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dresoftmax.fit.hessian_policy.LEAST_ENTRIES", 0)
        problem = problem_of()
        return solve(problem.with_data(A=da.from_array(problem.A, chunks=(ROWS, -1))))


@pytest.fixture
def same(undisturbed):
    """Give the check that a solve went as if nothing had happened."""

    def check(result):
        assert result.success
        np.testing.assert_allclose(result.x, undisturbed.x, rtol=1e-10)
        steps = [[(r.phase, r.step, r.rows_sketched) for r in each.history]
                 for each in (result, undisturbed)]  # fmt: skip
        assert steps[0] == steps[1]

    return check


@pytest.fixture
def source(tmp_path):
    """Give the problem with rows that count how often they are loaded, and their count."""
    folder = tmp_path / "loads"
    folder.mkdir()
    problem = problem_of()
    return problem.with_data(A=counted(problem.A, ROWS, folder)), lambda: sum(loads(folder))


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Return a function that has one read, halfway, do something."""
    (tmp_path / "reads").mkdir()

    def watch(act):
        watched = Watched(tmp_path / "reads", BLOCKS, SECOND_READ, act)
        watched.install(monkeypatch)
        return watched

    return watch


def at_block_7(act, block, block_info):
    """Return the block, but for one, which acts."""
    if block_info[0]["chunk-location"][0] == 7:
        act()
    return block


def at_records(*actions):
    """Return a callback that does one thing at each of the first records on all rows."""
    left = list(actions)

    def callback(record):
        if left and record.phase == "full":
            left.pop(0)()

    callback.left = left
    return callback


# --- workers ---------------------------------------------------------------------

FORMS = {
    "held": ({}, lambda A: A),
    "loaded": ({"persist": False}, lambda A: A),
    "persisted": ({}, lambda A: A.persist()),
    "numpy": ({}, lambda A: A.compute(scheduler="synchronous")),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_worker_is_killed_in_a_read(same, source, watched, monkeypatch, form):
    problem, loaded = source
    monkeypatch.setattr("dresoftmax.placement.chunks.PIECE", 8 * ROWS * problem.A.shape[1])
    reads = watched(die)
    options, convert = FORMS[form]
    with local_cluster(2) as client:
        A = convert(problem.A)
        same(solve(problem.with_data(A=A), client=client, **options))
    assert reads.acted
    assert 0 < reads.extra <= BLOCKS
    if form in ("held", "persisted"):
        assert BLOCKS < loaded() <= 1.6 * BLOCKS


def test_a_worker_that_fails_in_every_read_is_an_error_in_the_end(source):
    problem, _ = source
    A = problem.A.map_blocks(partial(at_block_7, partial(die, None)), meta=problem.A._meta)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        local_cluster(2) as client,
        pytest.raises(KilledWorker, match=r"dresoftmax-read.* on 2 different workers"),
    ):
        solve(problem.with_data(A=A), client=client, persist=False)


def test_workers_leave_and_join(same, source):
    problem, loaded = source
    with local_cluster(2) as client:
        cluster = client.cluster
        first, _ = cluster.scheduler_info["workers"]

        def join():
            cluster.scale(3)
            client.wait_for_workers(3)

        callback = at_records(join, lambda: client.retire_workers([first]), client.rebalance)
        same(solve(problem, client=client, callback=callback))
        assert not callback.left
        assert first not in workers_of(client)
    assert loaded() == BLOCKS


def test_an_adaptive_cluster_shrinks(same, source):
    problem, loaded = source
    with local_cluster(3) as client:

        def shrink():
            client.cluster.adapt(minimum=1, maximum=3, interval="50ms", wait_count=2)
            assert wait_until(lambda: len(workers_of(client)) == 1)

        callback = at_records(shrink)
        same(solve(problem, client=client, callback=callback))
        assert not callback.left
    assert loaded() == BLOCKS


def test_a_worker_is_paused_by_its_memory(same, source):
    problem, loaded = source
    settings = {"distributed.worker.memory.monitor-interval": "50ms"}
    with dask.config.set(settings), local_cluster(2, memory_limit="2GB") as client:
        first, _ = workers_of(client)

        def states():
            return client.run_on_scheduler(
                lambda dask_scheduler: [w.status.name for w in dask_scheduler.workers.values()]
            )

        def pause():
            client.run(_lower_pause, workers=[first])
            assert wait_until(lambda: "paused" in states())

        callback = at_records(pause)
        same(solve(problem, client=client, callback=callback))
        assert not callback.left
        assert sorted(states()) == ["paused", "running"]
    assert loaded() == BLOCKS


def _lower_pause(dask_worker):
    dask_worker.memory_manager.memory_pause_fraction = 0.001


def test_blocks_are_moved_by_rebalance(same, source):
    problem, loaded = source
    rebalance = "distributed.worker.memory.rebalance."
    settings = {"measure": "managed", "sender-min": 0.0, "sender-recipient-gap": 0.0}
    settings = {rebalance + name: value for name, value in settings.items()}
    with dask.config.set(settings), local_cluster(2, memory_limit="2GB") as client:
        places = []

        def join():
            client.cluster.scale(3)
            client.wait_for_workers(3)
            places.append(holders(client))

        def move():
            client.rebalance()
            places.append(holders(client))

        callback = at_records(join, move)
        same(solve(problem, client=client, callback=callback))
    before, after = places
    assert (before, after) == (2, 3)
    assert loaded() == BLOCKS


def workers_of(client):
    return list(client.scheduler_info(n_workers=-1)["workers"])


def holders(client):
    """Count the workers with groups of blocks."""
    return client.run_on_scheduler(
        lambda dask_scheduler: sum(
            any(task.prefix.name == "dresoftmax-group" for task in worker.has_what)
            for worker in dask_scheduler.workers.values()
        )
    )


# --- the connection of the client --------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """Give a cluster that nobody kills anything of."""
    with local_cluster(2) as client:
        yield client.cluster


@pytest.fixture
def proxy(cluster):
    """Give a connection to the scheduler that can be cut."""
    proxy = Proxy(cluster.scheduler_address)
    yield proxy
    proxy.close()


@pytest.fixture
def far(proxy):
    """Give a client that is connected through the proxy."""
    with Client(proxy.address, set_as_default=False) as client:
        yield client
        proxy.mend()


def interrupt(proxy, seconds=0.2):
    """Cut the connection, and mend it a little later."""
    proxy.cut()
    threading.Timer(seconds, proxy.mend).start()


@pytest.mark.parametrize("form", ["held", "loaded", "numpy"])
def test_the_connection_is_lost_in_a_read(same, source, watched, monkeypatch, proxy, far, form):
    problem, loaded = source
    monkeypatch.setattr("dresoftmax.placement.chunks.PIECE", 8 * ROWS * problem.A.shape[1])
    reads = watched(linger)
    cut = threading.Thread(target=lambda: wait_until(lambda: reads.acted) and interrupt(proxy))
    cut.start()
    options, convert = FORMS[form]
    same(solve(problem.with_data(A=convert(problem.A)), client=far, **options))
    cut.join()
    assert 0 < reads.extra <= BLOCKS
    if form == "held":
        assert loaded() == 2 * BLOCKS


def test_the_connection_is_lost_between_reads(same, source, watched, proxy, far):
    problem, loaded = source
    reads = watched(linger)
    callback = at_records(*[partial(interrupt, proxy)] * 2)
    same(solve(problem, client=far, callback=callback))
    assert not callback.left
    assert reads.extra <= BLOCKS
    assert loaded() == 3 * BLOCKS


def test_the_connection_is_lost_while_rows_are_loaded(same, source, proxy, far):
    problem, loaded = source
    cut = threading.Thread(target=lambda: wait_until(loaded) and interrupt(proxy, 0.0))
    cut.start()
    slow = problem.A.map_blocks(lambda block: (time.sleep(0.05), block)[1], meta=problem.A._meta)
    same(solve(problem.with_data(A=slow), client=far))
    cut.join()
    assert BLOCKS < loaded() <= 2 * BLOCKS


def test_a_connection_that_does_not_come_back_is_an_error(source, proxy):
    problem, _ = source
    with Client(proxy.address, timeout="1s", set_as_default=False) as client:
        with pytest.raises(ConnectionError, match="to the Dask scheduler was lost"):
            solve(problem, client=client, callback=at_records(proxy.cut))
        proxy.mend()


def test_what_was_persisted_goes_with_the_connection(source, proxy, far):
    problem, _ = source
    with far.as_current():
        A = problem.A.persist()
    with pytest.raises(ConnectionError, match=r"A was persisted, and is gone .* before persist"):
        solve(problem.with_data(A=A), client=far, callback=at_records(partial(interrupt, proxy)))


def fail():
    raise CommClosedError("of the user's own")


def test_errors_of_the_data_are_not_tried_again(source, far):
    """Not even where they look like those of a lost connection."""
    problem, loaded = source
    A = problem.A.map_blocks(partial(at_block_7, fail), meta=problem.A._meta)
    with pytest.raises(CommClosedError, match="of the user's own"):
        solve(problem.with_data(A=A), client=far)
    assert loaded() <= BLOCKS
