"""Blocks of any kind and type, cut anywhere, whatever the array around them says."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from helpers.forms import (
    DENSE_KINDS,
    KINDS,
    PROBLEM,
    SPARSE_KINDS,
    D,
    N,
    as_dask,
    assert_solved,
    blocks_of_A,
    cuts,
    solve,
)
from helpers.problems import reference_solution
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dresoftmax

ANY_CASE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def check_blocks(blocks, declared, known, b_cuts):
    A = as_dask(blocks, declared, known)
    b = da.from_array(PROBLEM.b, chunks=(tuple(np.diff(b_cuts).tolist()),))
    assert_solved(solve(A, b))


DECLARED = st.sampled_from(["float64", "float32", "int8"])


@ANY_CASE
@given(blocks_of_A([DENSE_KINDS, SPARSE_KINDS]), DECLARED, st.booleans(), cuts())
def test_dask_arrays_of_any_chunks_and_types(blocks, declared, known, b_cuts):
    """All blocks are dense, or all are sparse; each is of any type and kind."""
    check_blocks(blocks, declared, known, b_cuts)


@ANY_CASE
@given(blocks_of_A([list(KINDS)]), DECLARED, st.booleans(), cuts())
def test_dask_arrays_of_mixed_kinds(blocks, declared, known, b_cuts):
    check_blocks(blocks, declared, known, b_cuts)


@pytest.mark.parametrize(
    "kinds", [("dense", "csr_array"), ("COO", "csr_matrix"), ("GCXS", "dense")]
)
@pytest.mark.parametrize("rows", [N, np.nan])
def test_chunks_of_columns_are_merged(kinds, rows):
    """Beside one another they may be of different kinds as well."""
    parts = [
        da.from_delayed(
            dask.delayed(KINDS[kind](PROBLEM.A[:, j : j + 2]), traverse=False), (rows, 2), float
        )
        for kind, j in zip(kinds, (0, 2), strict=True)
    ]
    assert_solved(solve(da.concatenate(parts, axis=1, allow_unknown_chunksizes=True)))


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.uint8, np.int8, bool])
def test_integers_do_not_wrap(dtype):
    """The extremes of each type come through as what they are, up to float64's precision."""
    low, high = (False, True) if dtype is bool else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    A = np.array([[low], [high], [high], [low], [high]], dtype=dtype)
    b = np.array([0.2, 0.1, 0.3, 0.2, 0.2])
    scale = 1.0 / float(high)
    expected = dresoftmax.solve(A.astype(float) * scale, b, unit="exp", seed=0)
    for form in (A, scipy.sparse.csr_array(A), da.from_array(A, chunks=2), pd.DataFrame(A)):
        result = dresoftmax.solve(form, b, unit="exp", seed=0)
        np.testing.assert_allclose(result.x / scale, expected.x, rtol=1e-6)


@pytest.mark.parametrize("form", ["numpy", "pandas", "dask", "csr"])
@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (1, 1)])
def test_one_row_and_one_column(shape, form):
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=shape), np.full(shape[0], 1 / shape[0])
    forms = {
        "numpy": A,
        "pandas": pd.DataFrame(A),
        "dask": da.from_array(A, chunks=(2, 2)),
        "csr": scipy.sparse.csr_array(A),
    }
    expected = dresoftmax.solve(A, b, ridge=0.1, unit="exp", seed=0)
    result = dresoftmax.solve(forms[form], b, ridge=0.1, unit="exp", seed=0)
    np.testing.assert_allclose(result.x, expected.x, atol=1e-9)


def test_columns_and_rows_of_zeros():
    A = np.hstack([PROBLEM.A, np.zeros((N, 1))])
    for form in (pd.DataFrame(A), scipy.sparse.coo_array(A), da.from_array(A, chunks=(60, 2))):
        result = solve(form)
        assert result.rank == D
        np.testing.assert_allclose(result.x[:D], reference_solution(PROBLEM).x, rtol=1e-7)
        assert result.x[D] == 0
