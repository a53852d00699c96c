"""Ray as the engine, in a real cluster of two CPUs on this machine."""

from __future__ import annotations

import math
import os
import signal
import sys

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from helpers.faults import wait_until
from helpers.problems import synthetic

import dresoftmax
from dresoftmax.blocks.make import make_block
from dresoftmax.fit import multi_target
from dresoftmax.reductions.evaluate import evaluate_blocks

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
engine = pytest.importorskip("dresoftmax.engines.ray")

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    # Ray's own, at import and shutdown, and of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]

N, D = 2000, 6
CLUSTER = 100_000_000
PROBLEM = synthetic(n=N, d=D, cond=10.0, noise="strong", w="vector")


@pytest.fixture(scope="module")
def cluster():
    # Workers find what the tests send them by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        start()
    yield
    ray.shutdown()


def start():
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=CLUSTER,
    )


def solve(A, b=PROBLEM.b, **options):
    common = PROBLEM.options | {"seed": 3, "tol": 1e-10} | options
    result = dresoftmax.solve(A, b, **common)
    assert result.success
    return result


def assert_same(result, other):
    np.testing.assert_allclose(result.x, other.x, rtol=1e-7, atol=1e-10)


def lazy(A, rows=300):
    return da.from_array(A, chunks=(rows, -1))


@pytest.mark.parametrize("hessian", ["exact", "leverage", "uniform", "countsketch"])
def test_the_answer_is_that_of_threads(hessian):
    A = lazy(PROBLEM.A)
    assert_same(solve(A, engine="ray", hessian=hessian), solve(A, hessian=hessian))


FORMS = {
    "NumPy": PROBLEM.A,
    "float32": PROBLEM.A.astype(np.float32),
    "sparse": scipy.sparse.csr_array(PROBLEM.A),
    "one chunk": lazy(PROBLEM.A, N),
    "unknown lengths": lazy(PROBLEM.A)[lazy(PROBLEM.A)[:, 0] > -np.inf],
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_A(form):
    other = FORMS[form].astype(np.float64) if form == "float32" else PROBLEM.A
    assert_same(solve(FORMS[form], engine="ray"), solve(other))


def test_streaming_and_many_targets():
    B = np.stack([PROBLEM.b, PROBLEM.b[::-1]], axis=1)
    held = solve(PROBLEM.A, B)
    assert_same(solve(lazy(PROBLEM.A), B, engine="ray", persist=False), held)


def test_a_unit_of_ones_own():
    own = dresoftmax.Unit("own", lambda z: math.exp(z) + z, lambda z: math.exp(z) + 1.0, math.exp)
    assert_same(solve(lazy(PROBLEM.A), engine="ray", unit=own), solve(PROBLEM.A))


def test_a_dataset_keeps_its_order_and_names():
    import pandas as pd
    import ray.data

    frame = pd.DataFrame(PROBLEM.A, columns=list("abcdef")).assign(target=PROBLEM.b)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_pandas([frame[:700], frame[700:750], frame[750:]])
    result = solve(dataset.drop_columns(["target"]), dataset.select_columns(["target"]))
    assert result.names == tuple("abcdef")
    assert_same(result, solve(PROBLEM.A))
    tensors = ray.data.from_numpy([PROBLEM.A[:900], PROBLEM.A[900:]])
    assert_same(solve(tensors), result)


def test_a_dataset_may_have_its_target_in_an_array():
    import ray.data

    dataset = ray.data.from_numpy([PROBLEM.A[:900], PROBLEM.A[900:]])
    assert_same(solve(dataset, PROBLEM.b), solve(PROBLEM.A))


def test_paths(tmp_path):
    zarr = pytest.importorskip("zarr")
    np.save(tmp_path / "A.npy", PROBLEM.A)
    zarr.create_array(tmp_path / "A.zarr", data=PROBLEM.A, chunks=(300, D))
    for path in ("A.npy", "A.zarr"):
        assert_same(solve(tmp_path / path, engine="ray"), solve(PROBLEM.A))


def test_the_answer_is_the_same_on_more_cpus(monkeypatch):
    A = lazy(PROBLEM.A)
    two = solve(A, engine="ray", hessian="leverage")
    monkeypatch.setattr(engine, "cpus", lambda: 5)
    five = solve(A, engine="ray", hessian="leverage")
    np.testing.assert_allclose(two.x, five.x, rtol=1e-9)
    assert [r.rows_sketched for r in two.history] == [r.rows_sketched for r in five.history]


class KilledOnce:
    """A read, of which the third task to come kills its process."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, queries, blocks, threads):
        for count in range(4):
            try:
                os.close(os.open(self.folder / str(count), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            if count == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            break
        return evaluate_blocks(queries, blocks, threads)


def test_a_process_is_killed_in_a_read(tmp_path, monkeypatch):
    whole = solve(lazy(PROBLEM.A), engine="ray")
    monkeypatch.setattr(multi_target, "evaluate_blocks", KilledOnce(tmp_path))
    result = solve(lazy(PROBLEM.A), engine="ray")
    assert (tmp_path / "3").exists()
    np.testing.assert_allclose(result.x, whole.x, rtol=1e-10)
    assert [r.step for r in result.history] == [r.step for r in whole.history]


def test_the_store_is_as_it_was_at_the_end():
    def used():
        return CLUSTER - ray.available_resources().get("object_store_memory", 0)

    def boo(record):
        raise RuntimeError("boo")

    A = np.random.default_rng(0).normal(size=(200_000, 6))
    solve(A, np.full(len(A), 1.0 / len(A)), w=None, engine="ray", tol=1e-6)
    with pytest.raises(RuntimeError, match="boo"):
        solve(A, np.full(len(A), 1.0 / len(A)), w=None, engine="ray", callback=boo)
    # Ray collects garbage in its own time.
    assert wait_until(lambda: used() <= 1_000_000, 30)


def test_tasks_and_blocks():
    blocks = [make_block(i, np.ones((50_000, 2)), np.ones(50_000), None) for i in range(7)]
    rows = engine.RayEngine([ray.put(block) for block in blocks])
    assert rows.reduce(lambda blocks, threads: np.array([1, len(blocks)])).tolist() == [2, 7]
    assert not engine.get(rows.blocks[0]).A.flags.owndata  # it lies in the store
    rows.close()


def test_errors():
    with pytest.raises(ValueError, match="choose one of 'auto', 'ray'"):
        solve(PROBLEM.A, engine="spark")
    with pytest.raises(ValueError, match="persist=False needs rows that tasks"):
        solve(PROBLEM.A, engine="ray", persist=False)
    with pytest.raises(ValueError, match="object store"):
        solve(np.broadcast_to(1.0, (2000, 20_000)), engine="ray")
    with pytest.raises(ValueError, match="boo"):
        solve(lazy(PROBLEM.A).map_blocks(boo, meta=np.empty((0, 0))), engine="ray")


def boo(block):
    raise ValueError("boo")
