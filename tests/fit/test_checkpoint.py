"""A solve that was ended goes on from its checkpoint, and only on its own data."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial

import dask.array as da
import numpy as np
import pytest
from conftest import local_cluster
from helpers.faults import wait_until
from helpers.problems import spectrum_matrix, target

import dresoftmax
from dresoftmax.fit import multi_target

N, D = 40_000, 6


def data(k=None):
    """Return A and b, of which three or more reads are needed."""
    rng = np.random.default_rng(4)
    A = spectrum_matrix(N, D, 10.0, rng)
    b = [target(A, rng.normal(size=D), "exp+linear", "strong", rng) for _ in range(k or 1)]
    return A, b[0] if k is None else np.stack(b, axis=1)


@pytest.fixture
def reads(monkeypatch):
    """Return a list of the number of queries in each read of all rows."""
    seen = []

    def reading(queries, blocks, threads):
        seen.append(len(queries))
        return evaluate_blocks(queries, blocks, threads)

    evaluate_blocks = multi_target.evaluate_blocks
    monkeypatch.setattr(multi_target, "evaluate_blocks", reading)
    return seen


def stop_after(steps):
    """Return a callback that raises after so many iterations over all rows, as a crash would."""
    left = [steps]

    def callback(record):
        left[0] -= record.phase == "full"
        if left[0] < 0:
            raise RuntimeError("crashed")

    return callback


def steps_of(result):
    return [(r.target, r.phase, r.step, r.rows_read, r.rows_sketched) for r in result.history]


FORMS = {
    "alone": {},
    "from a start": {"x0": np.full(D, 0.1)},
    "sketched": {"hessian": "leverage", "sketch_size": 2000},
    "hashed": {"hessian": "countsketch", "sketch_size": 2000},
    "weighted": {"w": 1e-6, "ridge": 1e-12},
}


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_solve_is_the_undisturbed_one(form, sampled, tmp_path, reads, request):
    if sampled:
        request.getfixturevalue("samples")
    A, b = data()
    solve = partial(dresoftmax.solve, A, b, seed=3, **FORMS[form])
    whole = solve()
    undisturbed = len(reads)
    path = tmp_path / "solve.npz"
    with pytest.raises(RuntimeError, match="crashed"):
        solve(checkpoint=path, callback=stop_after(1))
    reads.clear()
    kept = len(reads_in(path))
    assert 0 < kept < undisturbed
    resumed = solve(resume=path)
    assert reads == [2] + [1] * (undisturbed - kept - 1), "the first also checks the data"
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert steps_of(resumed) == steps_of(whole)
    assert resumed.data_passes == whole.data_passes


def reads_in(path):
    with np.load(path) as file:
        return json.loads(str(file["header"]))["reads"]


def test_several_targets_resume_together(tmp_path):
    A, b = data(3)
    whole = dresoftmax.solve(A, b, seed=3)
    path = tmp_path / "solve.npz"
    with pytest.raises(RuntimeError, match="crashed"):
        dresoftmax.solve(A, b, seed=3, checkpoint=path, callback=stop_after(4))
    resumed = dresoftmax.solve(A, b, resume=path)
    np.testing.assert_array_equal(resumed.x, whole.x)
    assert steps_of(resumed) == steps_of(whole)
    assert resumed.data_passes == whole.data_passes


def test_a_finished_solve_is_only_checked(tmp_path, reads):
    A, b = data()
    path = tmp_path / "solve.npz"
    first = dresoftmax.solve(A, b, seed=3, checkpoint=path)
    reads.clear()
    again = dresoftmax.solve(A, b, resume=path, checkpoint=tmp_path / "copy.npz")
    assert reads == [1]
    np.testing.assert_array_equal(again.x, first.x)
    third = dresoftmax.solve(A, b, resume=tmp_path / "copy.npz")
    np.testing.assert_array_equal(third.x, first.x)


def test_more_may_be_asked_of_a_resumed_solve(tmp_path):
    A, b = data()
    path = tmp_path / "solve.npz"
    short = dresoftmax.solve(A, b, seed=3, max_iter=1, checkpoint=path, hessian="uniform")
    assert not short.success
    resumed = dresoftmax.solve(A, b, tol=1e-11, resume=path, hessian="uniform")
    whole = dresoftmax.solve(A, b, seed=3, tol=1e-11, hessian="uniform")
    assert resumed.success
    np.testing.assert_allclose(resumed.x, whole.x, rtol=0, atol=1e-9)


def test_another_machine_that_rounds_otherwise_reads_on(tmp_path, reads):
    """Points that are off by more than rounding are read, and the answer is right."""
    A, b = data()
    path, moved = tmp_path / "solve.npz", tmp_path / "moved.npz"
    whole = dresoftmax.solve(A, b, seed=3, checkpoint=path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["1-0-points"] = arrays["1-0-points"] * (1.0 + 1e-9)
    np.savez(moved, **arrays)
    reads.clear()
    resumed = dresoftmax.solve(A, b, resume=moved)
    assert len(reads) == len(reads_in(path)) - 1
    np.testing.assert_array_equal(resumed.x, whole.x)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    A, b = data()
    path = tmp_path_factory.mktemp("checkpoint") / "solve.npz"
    dresoftmax.solve(A, b, seed=3, x0=np.full(D, 0.1), w=np.full(N, 1e-4), checkpoint=path)
    return path


def one_changed(array):
    changed = array.copy()
    changed[N // 2] *= 1.01
    return changed


OTHERS = {
    "unit": {"unit": "exp"},
    "hessian": {"hessian": "uniform"},
    "ridge": {"ridge": 1e-9},
    "seed": {"seed": 4},
    "w": {"w": None},
    "columns of A": {"A": data()[0][:, :5], "x0": np.full(5, 0.1)},
    "targets": {"b": data(2)[1], "x0": np.full((D, 2), 0.1)},
    "another sum": {"b": data()[1] * 1.001},
    "other points": {"x0": np.full(D, 0.2)},
    "40000 rows": {"A": data()[0][:-1], "b": data()[1][:-1], "w": np.full(N - 1, 1e-4)},
    "other sums": {"A": one_changed(data()[0])},
    "A, b or w": {"b": data()[1][::-1].copy()},
    "than when": {"w": one_changed(np.full(N, 1e-4))},
}


@pytest.mark.filterwarnings("ignore:b sums to")
@pytest.mark.parametrize("found", OTHERS)
def test_other_data_and_options_are_refused(found, written):
    A, b = data()
    given = {"A": A, "b": b, "x0": np.full(D, 0.1), "w": np.full(N, 1e-4)} | OTHERS[found]
    if found == "40000 rows":
        given["b"] = given["b"] * (b.sum() / given["b"].sum())
        given["b"][:2] += [1e-6, -1e-6]  # and so have them another norm
        found = "another sum|had 40000"
    with pytest.raises(ValueError, match=f"resume is a checkpoint .*{found}"):
        dresoftmax.solve(given.pop("A"), given.pop("b"), resume=written, **given)


@pytest.mark.parametrize("left", [0, 3, 100, 0.5, 0.99])
def test_a_truncated_file_is_an_error(left, written, tmp_path):
    whole = written.read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(whole[: int(left * len(whole)) if left < 1 else left])
    with pytest.raises(ValueError, match=r"cut\.npz, which is damaged or no checkpoint"):
        dresoftmax.solve(*data(), resume=path)


def test_a_flipped_bit_is_an_error(written, tmp_path):
    whole = bytearray(written.read_bytes())
    with zipfile.ZipFile(written) as file:
        member = file.getinfo("0-0-vectors.npy")
    whole[member.header_offset + member.file_size - 5] ^= 4
    path = tmp_path / "flipped.npz"
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        dresoftmax.solve(*data(), resume=path)


def test_a_file_of_another_version_is_not_called_damaged(written, tmp_path):
    with np.load(written) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"])) | {"format": "dresoftmax checkpoint 1"}
    np.savez(tmp_path / "old.npz", **arrays | {"header": json.dumps(header)})
    with pytest.raises(
        ValueError, match="a dresoftmax checkpoint 1, but this version reads"
    ) as info:
        dresoftmax.solve(*data(), resume=tmp_path / "old.npz")
    assert "damaged" not in str(info.value)


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    path, mark = tmp_path / "trap.npz", tmp_path / "mark"
    np.savez(path, header=np.array([Trap(str(mark))], dtype=object))
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        dresoftmax.solve(*data(), resume=path)
    assert not mark.exists()


def test_paths_are_checked_before_any_work(tmp_path, reads):
    A, b = data()
    with pytest.raises(FileNotFoundError, match="no such file"):
        dresoftmax.solve(A, b, resume=tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        dresoftmax.solve(A, b, checkpoint=tmp_path / "none" / "solve.npz")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        dresoftmax.solve(A, b, checkpoint=tmp_path)
    with pytest.raises(TypeError, match="checkpoint is 3; pass the path of a file"):
        dresoftmax.solve(A, b, checkpoint=3)
    assert not reads


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    A, b = data()
    path = tmp_path / "solve.npz"
    dresoftmax.solve(A, b, seed=3, max_iter=1, checkpoint=path, hessian="uniform")
    before = path.read_bytes()

    def full(file, **arrays):
        file.write(b"part")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        dresoftmax.solve(A, b, checkpoint=path, resume=path, hessian="uniform")
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["solve.npz"]


def test_nan_in_A_is_no_checkpoint(tmp_path):
    A, b = data()
    A[7, 2] = np.nan
    with pytest.raises(ValueError, match="A contains NaN"):
        dresoftmax.solve(A, b, x0=np.zeros(D), checkpoint=tmp_path / "solve.npz")
    assert not list(tmp_path.iterdir())


# --- what ends a solve --------------------------------------------------------------

DRIVER = """
import sys, os, time
import dask.array as da, numpy as np
from distributed import Client, LocalCluster
import dresoftmax

def wait(record):
    if record.phase == "full" and record.step != "start":
        print("stepped", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    A, b = (np.load(path) for path in sys.argv[1:3])
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        with Client(cluster):
            dresoftmax.solve(
                da.from_array(A, chunks=(10_000, -1)), b, seed=3, checkpoint=sys.argv[3],
                callback=wait,
            )
"""


def test_the_scheduler_and_the_client_are_killed(tmp_path):
    A, b = data()
    paths = [tmp_path / name for name in ("A.npy", "b.npy", "solve.npz")]
    np.save(paths[0], A)
    np.save(paths[1], b)
    program = tmp_path / "driver.py"
    program.write_text(DRIVER)
    command = [sys.executable, program, *paths]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as driver:
        assert driver.stdout.readline() == b"stepped\n"
        os.killpg(driver.pid, signal.SIGKILL)
    with local_cluster(2) as client:
        lazy = da.from_array(A, chunks=(10_000, -1))
        whole = dresoftmax.solve(lazy, b, seed=3, client=client)
        resumed = dresoftmax.solve(lazy, b, resume=paths[2], client=client)
    assert resumed.success
    np.testing.assert_allclose(resumed.x, whole.x, rtol=0, atol=1e-12)
    assert steps_of(resumed) == steps_of(whole)


def interrupt_after(steps):
    """Return a callback that has Ctrl-C pressed after so many iterations over all rows."""
    left = [steps]

    def callback(record):
        left[0] -= record.phase == "full"
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)

    return callback


@pytest.mark.parametrize("k", [None, 3])
def test_ctrl_c_returns_the_best_point(k, tmp_path):
    A, b = data(k)
    whole = dresoftmax.solve(A, b, seed=3)
    path = tmp_path / "solve.npz"
    result = dresoftmax.solve(
        A, b, seed=3, callback=interrupt_after(2 if k is None else 4), checkpoint=path
    )
    first = result if k is None else result[0]
    assert first.status is dresoftmax.Status.INTERRUPTED
    assert not result.success
    assert "Interrupted; x is the best point found" in result.message
    assert np.abs(result.x - whole.x).max() < 0.5
    assert first.nit == 1
    resumed = dresoftmax.solve(A, b, resume=path)
    np.testing.assert_array_equal(resumed.x, whole.x)


def test_ctrl_c_before_there_is_a_point(samples):
    def callback(record):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        dresoftmax.solve(*data(), callback=callback)


def test_ctrl_c_on_the_command_line_saves_the_best_point(tmp_path):
    A, b = data()
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "b.npy", b)
    command = [
        sys.executable, "-m", "dresoftmax.cli", "solve", "A.npy", "b.npy", "-o", "x.npz",
        "--hessian", "uniform", "--tol", "1e-300", "--max-iter", "1000000",
        "--checkpoint", "c.npz",
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert wait_until((tmp_path / "c.npz").exists, 60)
        time.sleep(0.2)
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=60)
    assert "interrupted" in out
    assert run.returncode == 130
    with np.load(tmp_path / "x.npz") as file:
        assert str(file["status"]) == "INTERRUPTED"
        assert np.isfinite(file["x"]).all()
