"""Solves in jobs of a real Slurm, which runs on this machine for the tests of this module."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import psutil
import pytest
from helpers.problems import attention
from helpers.slurm import PATIENCE, ask, jobs, processes, slurm, wait_for

import dresoftmax
from dresoftmax.launch import describe, open_cluster

CLUSTER = Path(__file__).parents[2] / "cluster"
BLOCKS = 8
OPTIONS = {"unit": "exp", "seed": 0, "tol": 1e-10}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Run a Slurm for the tests of this module."""
    root = tmp_path_factory.mktemp("slurm")
    with slurm(root):
        yield root


@pytest.fixture(scope="module")
def here():
    """Return the answer of this process."""
    problem = attention("exp")
    return dresoftmax.solve(problem.A, problem.b, **OPTIONS)


def spec(folder, **size):
    """Describe two jobs of one worker each; all that they write goes into `folder`."""
    return {
        "cluster": "dask_jobqueue.SLURMCluster",
        "arguments": {
            "cores": 1,
            "memory": "1GB",
            "walltime": "00:05:00",
            "log_directory": str(folder),
            "local_directory": str(folder),
            "scheduler_options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"},
        },
        "wait_for_workers": 2,
        "timeout": "60s",
        **size,
    }


def assert_answer(x, here):
    """Compare with the solve in this process, and with the query that made the weights."""
    for other in (here.x, attention("exp").x_true):
        assert np.linalg.norm(x - other) <= 1e-8 * np.linalg.norm(other)


def test_a_solve_in_jobs_gives_the_answer_of_this_process(root, here, tmp_path):
    problem = attention("exp")
    A = da.from_array(problem.A, chunks=(len(problem.b) // BLOCKS, -1))
    described = describe(spec(tmp_path, scale={"jobs": 2}))
    with open_cluster(spec(tmp_path, scale={"jobs": 2})) as client:
        scheduler = client.scheduler_info()["address"]
        scripts = [ask("scontrol", "write", "batch_script", job, "-") for job in jobs()]
        result = dresoftmax.solve(A, problem.b, client=client, **OPTIONS)
    assert_answer(result.x, here)
    # Slurm was given the text that a dry run shows, but for what is not known before.
    unknown = re.sub(r"tcp://<.*?>:8786|dummy-name", "{}", described).strip()
    assert sorted(scripts) == [unknown.format(scheduler, f"SLURMCluster-{i}") for i in range(2)]


@pytest.mark.parametrize(
    "size",
    [
        {"scale": {"jobs": 2}},
        {"adapt": {"minimum_jobs": 2, "maximum_jobs": 2, "interval": "100ms"}},
    ],
    ids=["one left", "another"],
)
def test_a_job_cancelled_in_a_read_costs_time_and_nothing_else(root, here, tmp_path, size):
    """The loading of a block cancels the job that it runs in, once, in the second read."""
    problem = attention("exp")
    cancelled, loaded = tmp_path / "cancelled", tmp_path / "loaded"
    loaded.mkdir()

    def load(rows):  # goes by value to the workers, which do not have this module
        (loaded / uuid.uuid4().hex).touch()
        if len(list(loaded.iterdir())) > 1.5 * BLOCKS:
            with suppress(FileExistsError):
                cancelled.touch(exist_ok=False)
                cancelled.write_text(os.environ["SLURM_JOB_ID"])
                subprocess.run(["scancel", os.environ["SLURM_JOB_ID"]], check=True)
                time.sleep(PATIENCE)
        return rows

    A = da.from_array(problem.A, chunks=(len(problem.b) // BLOCKS, -1))
    A = A.map_blocks(load, dtype=A.dtype, meta=problem.A[:0])
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}),
        open_cluster(spec(tmp_path, **size)) as client,
    ):
        before = set(jobs())
        result = dresoftmax.solve(A, problem.b, client=client, persist=False, **OPTIONS)
        if "adapt" in size:
            client.wait_for_workers(2, timeout=PATIENCE)
        after = {job for job, state in jobs().items() if state == "RUNNING"}
    assert before - after == {cancelled.read_text()}
    assert len(after) == (2 if "adapt" in size else 1)
    assert_answer(result.x, here)


def test_a_batch_job_holds_scheduler_workers_and_solve(root, here, tmp_path, monkeypatch):
    problem = attention("exp")
    folder = tmp_path / "it's here"
    folder.mkdir()
    np.save(folder / "A.npy", problem.A)
    np.save(folder / "b.npy", problem.b)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("DRESOFTMAX_INTERFACE", "lo")
    size = ["--ntasks=2", "--cpus-per-task=1", "--mem-per-cpu=1G", "--time=5"]
    files = ["A.npy", "b.npy", "-o", "x.npz", "--unit", "exp", "--seed", "0", "--tol", "1e-10"]
    job = ask("sbatch", "--parsable", *size, CLUSTER / "slurm-job.sh", *files, cwd=folder)
    wait_for(lambda: job not in jobs(), root)

    output = (folder / f"dresoftmax-{job}.log").read_text()
    assert "JobState=COMPLETED" in ask("scontrol", "show", "job", job), output
    assert "converged" in output
    assert re.search(
        r"Scheduler at: +tls://127", (folder / f"dresoftmax-{job}-cluster.log").read_text()
    )
    with np.load(folder / "x.npz", allow_pickle=False) as saved:
        assert_answer(saved["x"], here)
    assert sorted(path.name for path in folder.iterdir()) == [
        "A.npy", "b.npy", f"dresoftmax-{job}-cluster.log", f"dresoftmax-{job}.log", "x.npz",
    ]  # fmt: skip
    assert not processes(root)


def test_nothing_is_left_of_a_slurm(tmp_path):
    """Neither daemons, nor a job that is running, nor what has got away from it."""
    before = psutil.Process().children(recursive=True)
    with slurm(tmp_path):
        ask("sbatch", "--wrap=(setsid sleep 600 &); sleep 601", "--output=/dev/null")
        wait_for(lambda: len(sleeping(tmp_path)) == 2, tmp_path)
        away, _ = sorted(sleeping(tmp_path), key=lambda process: process.cmdline())
        assert away.parent() not in processes(tmp_path)
    assert not processes(tmp_path)
    assert psutil.Process().children(recursive=True) == before


def sleeping(root):
    return [process for process in processes(root) if process.name() == "sleep"]
