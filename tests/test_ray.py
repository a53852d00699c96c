"""Ray as the engine, in a real cluster of two CPUs on this machine."""

from __future__ import annotations

import os
import signal
import sys

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from problems import synthetic

import dresoftmax

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    # Ray's own, at import and shutdown, and of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]

N, D = 2000, 6
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
        object_store_memory=100_000_000,
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


class KilledOnce:
    """A task of which the first to come kills its process."""

    def __init__(self, path):
        self.path = path

    def __call__(self, blocks, threads):
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return sum(block.rows for block in blocks)
        return os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_and_the_number_of_tasks(tmp_path):
    from dresoftmax.blocks import make_block
    from dresoftmax.engines.ray import RayEngine, get

    blocks = [make_block(i, np.ones((50_000, 2)), np.ones(50_000), None) for i in range(7)]
    engine = RayEngine([ray.put(block) for block in blocks])
    assert engine.reduce(lambda blocks, threads: np.ones(threads, dtype=int)).sum() == 2
    assert engine.reduce(KilledOnce(str(tmp_path / "killed"))) == 350_000
    assert (tmp_path / "killed").exists()
    arrived = get(engine.blocks[0])
    assert not arrived.A.flags.owndata  # it lies in the store
    engine.close()


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
