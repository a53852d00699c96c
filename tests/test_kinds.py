"""Blocks of any kind and type, cut anywhere, whatever the array around them says."""

from __future__ import annotations

from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sparse
from forms import PROBLEM, D, N, assert_solved, solve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from problems import reference_solution

import dresoftmax

KINDS = {
    "dense": np.asarray,
    "Fortran": np.asfortranarray,
    "matrix": lambda values: values.view(np.matrix),
    "csr_array": scipy.sparse.csr_array,
    "csr_matrix": scipy.sparse.csr_matrix,
    "csc_matrix": scipy.sparse.csc_matrix,
    "coo_array": scipy.sparse.coo_array,
    "COO": sparse.COO.from_numpy,
    "GCXS": sparse.GCXS.from_numpy,
}
DENSE_KINDS = ["dense", "Fortran", "matrix"]
SPARSE_KINDS = [kind for kind in KINDS if kind not in DENSE_KINDS]
ANY_DTYPE = ["float64", "float32", "int8", "int16", "int64"]
DTYPES = [*ANY_DTYPE, "float16", "longdouble", ">f4"]  # sparse packages lack the last ones
ANY_CASE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def cuts(draw):
    """Where rows are cut, empty chunks included."""
    inner = draw(st.lists(st.integers(0, N), max_size=6))
    return [0, *sorted(inner), N]


@st.composite
def blocks_of_A(draw, groups):
    """Blocks of one group of kinds, and the rows that each has."""
    kinds = draw(st.sampled_from(groups))
    blocks = []
    for start, stop in pairwise(draw(cuts())):
        kind = draw(st.sampled_from(kinds))
        dtypes = [dtype for dtype in DTYPES if dtype in ANY_DTYPE or kind in DENSE_KINDS]
        rows = PROBLEM.A[start:stop].astype(draw(st.sampled_from(dtypes)))
        blocks.append((KINDS[kind](rows), stop - start))
    return blocks


def as_dask(blocks, declared, known):
    """Return blocks as a dask array that says they are dense and of another type."""
    parts = [
        da.from_delayed(
            dask.delayed(block, traverse=False),
            (rows if known else np.nan, D),
            meta=np.empty((0, 0), declared),
        )
        for block, rows in blocks
    ]
    return da.concatenate(parts, allow_unknown_chunksizes=True)


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
