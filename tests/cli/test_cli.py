"""The commands, run as a user runs them: files in, exit status and files out."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from helpers.commands import assert_refused, assert_solution, run
from helpers.problems import sparse, synthetic

import dresoftmax


def command(*arguments, cwd):
    """Run the command in a process of its own, with nothing on its terminal."""
    return subprocess.run(
        [sys.executable, "-m", "dresoftmax.cli", *map(str, arguments)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def names(directory):
    return sorted(path.name for path in directory.iterdir())


# --- solve: input and output -----------------------------------------------------


def test_solve_writes_the_result_and_a_summary(files, problem):
    result = run("solve", files / "A.npy", files / "b.npy", "-o", files / "out.npz", "--seed", 0)
    assert result.exit_code == 0, result.output
    assert_solution(files / "out.npz", problem)
    for part in (
        "converged",
        "loss",
        "decrement",
        "rank",
        "5 of 5",
        "rows read / n",
        "target",
        "out.npz",
    ):
        assert part in result.stdout
    assert "iteration 0" in result.stderr
    assert names(files) == ["A.npy", "b.npy", "out.npz"]


def test_the_saved_file_holds_every_field(files, problem):
    run("solve", files / "A.npy", files / "b.npy", "-o", files / "out.npz", "--seed", 0, "--quiet")
    direct = dresoftmax.solve(problem.A, problem.b, seed=0)
    with np.load(files / "out.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["x"], direct.x)
        assert saved["fun"] == direct.fun
        assert saved["message"] == direct.message
        assert saved["success"]
        assert "names" not in saved
        for name in ("iteration", "phase", "decrement", "data_passes"):
            column = [getattr(record, name) for record in direct.history]
            np.testing.assert_array_equal(saved[f"history_{name}"], column)


def test_quiet_says_nothing(files):
    result = run("solve", files / "A.npy", files / "b.npy", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_sparse_and_zarr_files(tmp_path):
    zarr = pytest.importorskip("zarr")
    problem = sparse()
    scipy.sparse.save_npz(tmp_path / "A.npz", problem.A)
    zarr.save_array(tmp_path / "A.zarr", problem.dense)
    zarr.save_array(tmp_path / "b.zarr", problem.b)
    for name in ("A.npz", "A.zarr"):
        out = tmp_path / "out.npz"
        result = run("solve", tmp_path / name, tmp_path / "b.zarr", "-o", out)
        assert result.exit_code == 0, result.output
        assert_solution(out, problem)
        out.unlink()


def test_tables_and_hdf5_come_with_names(tmp_path, problem):
    pd.DataFrame(problem.A, columns=list("abcde")).to_parquet(tmp_path / "A.parquet")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["b"] = problem.b
    out = tmp_path / "out.npz"
    result = run("solve", tmp_path / "A.parquet", f"{tmp_path / 'data.h5'}::/b", "-o", out)
    assert result.exit_code == 0, result.output
    assert_solution(out, problem)
    with np.load(out, allow_pickle=False) as saved:
        assert saved["names"].tolist() == list("abcde")


@pytest.mark.parametrize(("suffix", "named"), [(".npy", False), (".parquet", True)])
def test_each_column_of_b_is_a_target(tmp_path, problem, suffix, named):
    """Without names they have numbers; what is written is stacked along the last axis."""
    targets, out = ("clicks", "[buys]"), tmp_path / "out.npz"
    B = np.stack([problem.b, problem.b[::-1]], axis=1)
    if named:
        pd.DataFrame(problem.A, columns=list("abcde")).to_parquet(tmp_path / "A.parquet")
        pd.DataFrame(B, columns=targets).to_parquet(tmp_path / "b.parquet")
    else:
        np.save(tmp_path / "A.npy", problem.A)
        np.save(tmp_path / "b.npy", B)
    paths = [tmp_path / f"{name}{suffix}" for name in ("A", "b")]
    result = run("solve", *paths, "-o", out, "--seed", 0)
    assert result.exit_code == 0, result.output
    assert "2 of 2 targets converged" in result.stdout
    direct = dresoftmax.solve(problem.A, B, seed=0)
    lines = [line.split() for line in result.stdout.splitlines()]
    for t, name in enumerate(targets if named else ("0", "1")):
        assert [name, "converged", f"{direct.fun[t]:.6e}"] in [line[:3] for line in lines]
    with np.load(out, allow_pickle=False) as saved:
        np.testing.assert_allclose(saved["x"], direct.x, rtol=1e-6)
        assert saved["jac"].shape == (5, 2)
        assert saved["fun"].shape == saved["alpha"].shape == saved["nit"].shape == (2,)
        assert saved["status"].tolist() == ["CONVERGED"] * 2
        assert set(saved["history_target"]) == {0, 1}
        assert ("names" in saved, "target_names" in saved) == (named, named)
        if named:
            assert saved["names"].tolist() == list("abcde")
            assert tuple(saved["target_names"]) == targets


def test_the_table_of_targets_fits_into_a_terminal(files, problem):
    np.save(files / "b.npy", np.stack([problem.b] * 2, axis=1))
    result = run("solve", files / "A.npy", files / "b.npy", "--max-iter", 0)
    assert result.exit_code == 1
    for t in "01":
        assert any(
            line.split()[:3] == [t, "iteration", "limit"] for line in result.stdout.splitlines()
        )
    assert "…" not in result.stdout


def test_options_reach_the_solver(tmp_path):
    problem = synthetic(n=2000, unit="exp", w="vector", ridge=True)
    np.save(tmp_path / "A.npy", problem.A)
    np.save(tmp_path / "b.npy", problem.b)
    np.save(tmp_path / "w.npy", problem.w)
    result = run(
        "solve", tmp_path / "A.npy", tmp_path / "b.npy", "-o", tmp_path / "out.npz",
        "--unit", "exp", "--w", tmp_path / "w.npy", "--ridge", problem.ridge,
        "--hessian", "countsketch", "--tol", 1e-9, "--max-iter", 50, "--seed", 3,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert_solution(tmp_path / "out.npz", problem)
    assert "countsketch" in result.stdout


# --- solve: where it runs --------------------------------------------------------


def test_solve_on_a_running_cluster(files, problem, client):
    address = client.scheduler.address
    for name in ("A.npy", "A.npz"):
        scipy.sparse.save_npz(files / "A.npz", scipy.sparse.csr_array(problem.A))
        out = files / "out.npz"
        result = run("solve", files / name, files / "b.npy", "--scheduler", address, "-o", out)
        assert result.exit_code == 0, result.output
        assert_solution(out, problem)


def test_solve_on_workers_of_its_own(files, problem):
    result = command("solve", "A.npy", "b.npy", "--workers", 2, "-o", "out.npz", cwd=files)
    assert result.returncode == 0, result.stderr
    assert_solution(files / "out.npz", problem)
    assert "\x1b" not in result.stdout + result.stderr
    others = [line for line in result.stderr.splitlines() if not line.startswith("iteration ")]
    assert others == []


def test_a_performance_report_is_written(files, client):
    inputs = "solve", files / "A.npy", files / "b.npy", "--quiet"
    report = files / "report.html"
    result = run(*inputs, "--scheduler", client.scheduler.address, "--performance-report", report)
    assert result.exit_code == 0, result.output
    text = report.read_text()
    assert text.rstrip().endswith("</html>")
    assert "dresoftmax-read" in text
    assert names(files) == ["A.npy", "b.npy", "report.html"]


def test_a_performance_report_is_checked_before_the_solve(files, client, monkeypatch):
    monkeypatch.setattr("dresoftmax.fit.multi_target.fit", pytest.fail)
    inputs = "solve", files / "A.npy", files / "b.npy"
    option = "--performance-report", files / "report.html"
    assert_refused(run(*inputs, *option), "of the tasks of a Dask cluster")
    there = "--scheduler", client.scheduler.address
    nowhere = files / "none" / "report.html"
    assert_refused(run(*inputs, *there, option[0], nowhere), "does not exist")
    assert_refused(run(*inputs, *there, option[0], files / "A.npy"), "one of the inputs")
    monkeypatch.setattr("dresoftmax.cli.performance_report._draws", lambda: False)
    assert_refused(run(*inputs, *there, *option), "needs bokeh", "dresoftmax[report]")
    assert names(files) == ["A.npy", "b.npy"]


def test_after_an_error_there_is_no_performance_report(files, client):
    np.save(files / "b.npy", np.ones(3))
    report = files / "report.html"
    there = "--scheduler", client.scheduler.address, "--performance-report", report
    assert_refused(run("solve", files / "A.npy", files / "b.npy", *there), "b has length 3")
    assert not report.exists()


def test_an_absent_scheduler_is_a_plain_error(files, monkeypatch):
    monkeypatch.setattr("dresoftmax.cli.options.CONNECT_TIMEOUT", "200ms")
    result = run("solve", files / "A.npy", files / "b.npy", "--scheduler", "tcp://127.0.0.1:9")
    assert_refused(result, "tcp://127.0.0.1:9")


# --- solve: failures -------------------------------------------------------------


def test_not_converged_is_exit_status_1_and_still_saved(files):
    out = files / "out.npz"
    result = run("solve", files / "A.npy", files / "b.npy", "--max-iter", 1, "-o", out)
    assert result.exit_code == 1
    assert "iteration limit" in result.stdout
    with np.load(out, allow_pickle=False) as saved:
        assert saved["status"] == "ITERATION_LIMIT"
        assert not saved["success"]


def test_bad_data_is_one_plain_line(files, problem):
    np.save(files / "b.npy", problem.b[:-1])
    assert_refused(run("solve", files / "A.npy", files / "b.npy"), "b", "1999")
    np.save(files / "A.npy", np.full((3, 2), "text"))
    assert_refused(run("solve", files / "A.npy", files / "b.npy"), "A", "dtype")


def test_pickled_data_is_refused(files):
    np.save(files / "A.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    assert_refused(run("solve", files / "A.npy", files / "b.npy"), "A.npy", "pickle")


@pytest.mark.parametrize("name", ["A.txt", "A.npy", "A.npz", "A.zarr", "A.parquet", "A.h5"])
def test_unreadable_files_are_named(files, name):
    (files / name).write_bytes(b"not an array")
    assert_refused(run("solve", files / name, files / "b.npy"), name)


def test_a_dense_npz_is_refused(files, problem):
    np.savez(files / "A.npz", A=problem.A)
    assert_refused(run("solve", files / "A.npz", files / "b.npy"), "A.npz", "save_npz")


def test_a_sparse_vector_is_refused(files, problem):
    scipy.sparse.save_npz(files / "b.npz", scipy.sparse.csr_array(problem.b[None]))
    assert_refused(run("solve", files / "A.npy", files / "b.npz"), "b is a vector", "b.npz", ".npy")


@pytest.mark.parametrize(
    ("path", "package", "extra"),
    [
        ("A.zarr", "zarr", "zarr"),
        ("A.parquet", "pyarrow", "dataframe"),
        ("A.h5::/A", "h5py", "hdf5"),
    ],
)
def test_a_package_is_named_where_it_is_missing(files, monkeypatch, path, package, extra):
    (files / path.partition(":")[0]).mkdir()
    for module in [name for name in sys.modules if name.split(".")[0] == package] or [package]:
        monkeypatch.setitem(sys.modules, module, None)
    assert_refused(
        run("solve", files / path, files / "b.npy"), f"needs {package}", f"dresoftmax[{extra}]"
    )


@pytest.mark.parametrize(
    ("a", "part"), [("A.h5", "A.h5::/name"), ("A.h5::/b", "/A"), ("none.h5::/A", "no such file")]
)
def test_what_an_hdf5_file_lacks_is_one_plain_line(files, a, part):
    with h5py.File(files / "A.h5", "w") as file:
        file["A"] = np.eye(3)
    assert_refused(run("solve", files / a, files / "b.npy"), part)


def test_the_output_is_checked_before_the_solve(files, monkeypatch):
    monkeypatch.setattr("dresoftmax.fit.multi_target.fit", pytest.fail)
    inputs = files / "A.npy", files / "b.npy"
    assert_refused(run("solve", *inputs, "-o", files / "none" / "out.npz"), "does not exist")
    assert_refused(run("solve", *inputs, "-o", files / "A.npy"), "is one of the inputs")
    inside = f"{files / 'A.h5'}::/A"
    assert_refused(run("solve", inside, inputs[1], "-o", files / "A.h5"), "is one of the inputs")
    (files / "out").mkdir()
    assert run("solve", *inputs, "-o", files / "out").exit_code == 2


def test_a_failed_write_leaves_nothing_behind(files, monkeypatch):
    def full_disk(file, **columns):
        file.write(b"half")
        raise OSError("No space left on device")

    (files / "out.npz").write_bytes(b"earlier")
    monkeypatch.setattr("numpy.savez", full_disk)
    result = run("solve", files / "A.npy", files / "b.npy", "-o", files / "out.npz", "--quiet")
    assert_refused(result, "No space left")
    assert (files / "out.npz").read_bytes() == b"earlier"
    assert names(files) == ["A.npy", "b.npy", "out.npz"]


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_plain_line(files, problem):
    np.save(files / "b.npy", 3 * problem.b)
    result = run("solve", files / "A.npy", files / "b.npy", "--max-iter", 1, "--quiet")
    assert result.stderr.startswith("Warning: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve", "A.npy", "absent.npy"],
        ["solve", "A.npy", "b.npy", "--unit", "tanh"],
        ["solve", "A.npy", "b.npy", "--workers", "0"],
        ["solve", "A.npy", "b.npy", "--workers", "1", "--scheduler", "tcp://127.0.0.1:9"],
        ["solve", "A.npy", "b.npy", "--tol", "-1"],
        ["solve", "A.npy", "b.npy", "--ridge", "-1"],
    ],
)
def test_wrong_usage_is_exit_status_2(files, arguments, monkeypatch):
    monkeypatch.chdir(files)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


# --- the rest --------------------------------------------------------------------


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.strip().endswith(dresoftmax.__version__)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from dresoftmax.cli import main\n"
        "main(['solve', '--help'], standalone_mode=False)\n"
        "heavy = {'dask', 'distributed', 'numba', 'numpy', 'scipy', 'matplotlib', 'rich'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Exit status" in done.stdout


def test_demo_recovers_the_query_and_draws(tmp_path):
    pytest.importorskip("matplotlib")
    result = command("demo", "--output", "demo.png", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    line = next(line for line in result.stdout.splitlines() if "max |x − q|" in line)
    assert float(line.rpartition("=")[2]) < 1e-6
    assert result.stdout.count("converged") == 2
    assert "\x1b" not in result.stdout + result.stderr
