"""Solves held against one another, and blocks, for tests of where rows lie and come from."""

from __future__ import annotations

import dask.array as da
import numpy as np

import dresoftmax
from dresoftmax import Status
from dresoftmax.inputs.dataset import check_dataset
from dresoftmax.placement.local import place_here
from helpers.problems import synthetic

GB = 10**9


def problem_of():
    return synthetic(n=4000, d=6, cond=30.0, noise="strong", w="vector")


def lazy(values, rows=500):
    """Return a dask array of one chunk of columns; of scipy.sparse, too."""
    return da.from_array(values, chunks=(rows,) + (-1,) * (values.ndim - 1), asarray=False)


def solve(problem, **options):
    options = {"tol": 1e-11, "seed": 3, **problem.options, **options}
    return dresoftmax.solve(problem.A, problem.b, **options)


def assert_same(result, other, rtol=1e-9):
    assert result.status is other.status is Status.CONVERGED, result.message
    assert np.linalg.norm(result.x - other.x) <= rtol * np.linalg.norm(other.x)
    np.testing.assert_allclose(result.fun, other.fun, rtol=rtol)


def assert_reads_alike(result, other):
    """Check that the very same rows were drawn, read by read."""
    assert_same(result, other)
    drawn = [[(r.phase, r.rows_sketched) for r in each.history] for each in (result, other)]
    assert drawn[0] == drawn[1]


def sketching(hessian):
    """Return options that sketch small problems too."""
    return {"hessian": hessian, "sketch_size": None if hessian == "exact" else 1500, "tol": 1e-9}


def blocks_of(A, b, persist=None):
    return place_here(check_dataset(A, b, None), persist).blocks
