"""Solves in jobs of a real Slurm, which runs on this machine for the tests of this module."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client
from problems import attention
from slurm import PATIENCE, ask, jobs, processes, slurm

import dresoftmax
from dresoftmax import Status

CLUSTER = Path(__file__).parents[1] / "cluster"
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


@contextmanager
def open_cluster(spec):
    import dask_jobqueue
    with dask_jobqueue.SLURMCluster(**spec["arguments"]) as cluster, Client(cluster) as client:
        if "adapt" in spec: cluster.adapt(**spec["adapt"])
        else: cluster.scale(**spec["scale"])
        client.wait_for_workers(spec["wait_for_workers"], timeout=30)
        yield client

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
    with open_cluster(spec(tmp_path, scale={"jobs": 2})) as client:
        running = jobs()
        result = dresoftmax.solve(A, problem.b, client=client, **OPTIONS)
    assert list(running.values()) == ["RUNNING", "RUNNING"]
    assert_answer(result.x, here)


@pytest.mark.parametrize(
    "size",
    [{"scale": {"jobs": 2}}, {"adapt": {"minimum_jobs": 2, "maximum_jobs": 2}}],
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


