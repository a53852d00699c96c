"""Fixtures shared by the whole suite: a small problem, and a cluster when it is asked for."""

from __future__ import annotations

from contextlib import contextmanager

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context
from helpers.problems import synthetic

from dresoftmax.engines.memory import Memory
from dresoftmax.fit import hessian_policy
from dresoftmax.placement import dask as on_workers
from dresoftmax.placement import local

# Most of the start of a worker is imports.  Those of the tests are forked from a process
# that has imported what they need and done nothing else; workers that a command starts
# import for themselves.
dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
get_mp_context().set_forkserver_preload(
    [
        "autograd.numpy",
        "dask.dataframe",
        "distributed.nanny",
        "dresoftmax.kernels.dense",
        "dresoftmax.solver",
        "h5py",
        "pytest",
        "scipy.optimize",
        "sparse",
        "xarray",
        "zarr",
    ]
)


@pytest.fixture
def samples(monkeypatch):
    """Have samples drawn of small data too, which are else solved without."""
    monkeypatch.setattr(hessian_policy, "LEAST_ENTRIES", 0)


@contextmanager
def local_cluster(n_workers, threads_per_worker=1, **options):
    """Open a client of `n_workers` processes, current until it closes."""
    with (
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=threads_per_worker,
            processes=True,
            dashboard_address=":0",  # any free port; None would mean 8787
            **options,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client():
    """Give the tests of one module a client of two worker processes."""
    with local_cluster(2) as client:
        yield client


@pytest.fixture(scope="module")
def problem():
    """Give a small problem to what is tested on any."""
    return synthetic(n=2000)


@pytest.fixture
def files(problem, tmp_path):
    """Give a folder with the files A.npy and b.npy of `problem`."""
    np.save(tmp_path / "A.npy", problem.A)
    np.save(tmp_path / "b.npy", problem.b)
    return tmp_path


@pytest.fixture
def room(monkeypatch):
    """Return a function that says what room there is for data, here as on a cluster."""

    def give(nbytes):
        memory = Memory((2 * nbytes,), (nbytes,))
        monkeypatch.setattr(local, "memory_here", lambda: memory)
        monkeypatch.setattr(on_workers, "memory_of", lambda client: memory)

    return give
