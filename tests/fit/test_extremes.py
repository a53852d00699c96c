"""Numbers and shapes at their limits, for several targets, held or loaded in each read."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from helpers.problems import Problem, reference_solution

import dresoftmax

K = 2
# It is needed where a single row fits any target, and keeps the solution in the span of rows.
WEIGHT = 0.1


def make_edges():
    rng = np.random.default_rng(4)

    def whole(n, d):
        return rng.integers(-3, 4, (n, d)).astype(float)

    rows, columns = whole(9, 3), whole(9, 4)
    rows[[0, 4, 8]] = 0
    columns[:, [0, 3]] = 0
    return {
        "one row": np.array([[2.0, -1.0, 0.0]]),
        "one column": whole(9, 1),
        "one number": np.array([[3.0]]),
        "fewer rows than columns": whole(4, 7),
        "rows of zeros": rows,
        "columns of zeros": columns,
        "equal columns": whole(9, 2)[:, [0, 1, 0]],
    }


EDGES = make_edges()


@cache
def problems_of(case):
    """Return a problem for each target."""
    A = EDGES[case]
    B = np.random.default_rng(8).dirichlet(np.ones(len(A)), K)
    return [Problem(A, b, "exp", WEIGHT) for b in B]


def targets_of(problems):
    return np.stack([problem.b for problem in problems], axis=1)


def assert_minima(result, problems, scale=1.0):
    """Hold x against the minima of `problems`, whose A has been divided by `scale`."""
    assert result.success, result.message
    assert result.x.shape == (problems[0].A.shape[1], len(problems))
    for each, problem in zip(result, problems, strict=True):
        expected = reference_solution(problem)
        assert each.rank == expected.rank
        np.testing.assert_allclose(each.x * scale, expected.x, rtol=1e-6, atol=1e-8)


# --- shapes ----------------------------------------------------------------------


def parts_of(values, *ends):
    return [values[start:stop] for start, stop in pairwise(ends)]


def delayed(make, parts):
    return [dask.delayed(make)(part) for part in parts]


def table(values):
    return pa.table({f"c{j}": column for j, column in enumerate(values.T)})


def frame_of_partitions(values):
    """Return a data frame with one partition that has rows, between empty ones."""
    n = len(values)
    parts = [pd.DataFrame(part) for part in parts_of(values, 0, 0, 0, n, n)]
    return dd.from_delayed([dask.delayed(part) for part in parts], meta=parts[0])


def sparse_chunks(values):
    """Return chunks of which the first and the last are empty, and one has a single row."""
    n, d = values.shape
    A = da.from_array(values, chunks=((0, 1, n - 1, 0), -1))
    return A.map_blocks(scipy.sparse.csc_array, dtype=float, meta=scipy.sparse.csc_array((0, d)))


LAZY = {
    "a chunk for each row": lambda values: da.from_array(values, chunks=(1, 1)),
    "sparse chunks": sparse_chunks,
    "dask frame": frame_of_partitions,
    "delayed tables": lambda values: delayed(table, parts_of(values, 0, 0, 1, len(values))),
}
FORMS = LAZY | {
    "NumPy": np.asarray,
    "Fortran": np.asfortranarray,
    "int8": lambda values: values.astype(np.int8),
    "CSR": scipy.sparse.csr_array,
    "pandas": pd.DataFrame,
    "Polars": lambda values: pl.DataFrame(table(values).to_pydict()),
    "Arrow": table,
}


@pytest.mark.parametrize("persist", [None, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", EDGES)
def test_shapes(case, form, persist):
    problems = problems_of(case)
    b = da.from_array(targets_of(problems), chunks=(2, 1))
    result = dresoftmax.solve(
        FORMS[form](EDGES[case]), b, w=WEIGHT, unit="exp", persist=persist, seed=0
    )
    assert_minima(result, problems)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_but_zeros(form):
    result = dresoftmax.solve(FORMS[form](np.zeros((6, 2))), np.full((6, K), 1 / 6), seed=0)
    assert (result.success, result.rank) == (True, 0)
    np.testing.assert_array_equal(result.x, np.zeros((2, K)))


@pytest.mark.parametrize("form", ["dask frame", "delayed tables", "pandas", "Polars", "Arrow"])
def test_a_table_of_one_column_is_one_target(form):
    (problem, _) = problems_of("rows of zeros")
    b = FORMS[form](problem.b[:, None])
    result = dresoftmax.solve(problem.A, b, w=WEIGHT, unit="exp", seed=0)
    assert_minima(result, [problem])


# --- numbers ---------------------------------------------------------------------

NUMBERS = {
    "int8": (-128, 127, -127),
    "uint8": (0, 255, 254),
    "int16": (-(2**15), 2**15 - 1, 0),
    "int64": (-(2**63), 2**63 - 1, 2**62),
    "uint64": (0, 2**64 - 1, 2**63 + 2**12),
    "bool": (False, True, True),
    "float16": (-65504.0, 65504.0, 60000.0),
}
ORDER = np.array([[0, 1], [1, 0], [1, 1], [2, 1], [0, 0], [1, 2]])


def extremes(dtype):
    """Return a matrix of `dtype`, the problems of it as floats, and what these are divided by."""
    A = np.array(NUMBERS[dtype], dtype)[ORDER]
    scale = float(np.abs(A.astype(float)).max())
    B = np.random.default_rng(3).dirichlet(np.full(len(A), 5.0), K)
    return A, [Problem(A.astype(float) / scale, b, "exp") for b in B], scale


NUMBER_FORMS = {
    "NumPy": np.asarray,
    "pandas": pd.DataFrame,
    "dask": lambda values: da.from_array(values, chunks=(4, 1)),
    "delayed": lambda values: delayed(np.asarray, parts_of(values, 0, 0, 2, 6)),
    "Arrow": table,
    "dask frame": frame_of_partitions,
}


@pytest.mark.parametrize("persist", [None, False])
@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers_neither_wrap_nor_overflow(dtype, form, persist):
    A, problems, scale = extremes(dtype)
    b = targets_of(problems)
    result = dresoftmax.solve(NUMBER_FORMS[form](A), b, unit="exp", persist=persist, seed=0)
    assert_minima(result, problems, scale)


@pytest.mark.parametrize("form", NUMBER_FORMS)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64", "bool", "float16"])
def test_targets_and_weights_of_any_type(dtype, form):
    """Two rows have all of the mass; w² is beyond 8 bits, and beyond float16."""
    A = extremes("int8")[1][0].A
    B = np.eye(len(A))[:, 1:3]
    w = np.array([1, 0, 1, 1, 0, 1]) * (1 if dtype == "bool" else 100)
    expected = [Problem(A, b, "exp", w.astype(float), ridge=0.01) for b in B.T]
    make = NUMBER_FORMS[form]
    result = dresoftmax.solve(
        A, make(B.astype(dtype)), w=w.astype(dtype), unit="exp", ridge=0.01, tol=1e-11, seed=0
    )
    assert_minima(result, expected)


def test_infinity_of_float16_is_named():
    A = np.float16([[1.0], [np.inf], [2.0]])
    with pytest.raises(ValueError, match=r"A contains NaN or infinity.*block 0, row 1"):
        dresoftmax.solve(A, np.full((3, K), 1 / 3))


# --- on a cluster ----------------------------------------------------------------


@pytest.mark.parametrize(("form", "persist"), list(zip(LAZY, [None, False] * 2, strict=True)))
def test_shapes_on_two_workers(form, persist, client):
    for case, A in EDGES.items():
        problems = problems_of(case)
        result = dresoftmax.solve(
            LAZY[form](A), targets_of(problems), w=WEIGHT, unit="exp", persist=persist, seed=0
        )
        assert_minima(result, problems)


@pytest.mark.parametrize("form", ["dask", "delayed"])
@pytest.mark.parametrize("dtype", ["int8", "uint64", "float16"])
def test_numbers_on_two_workers(dtype, form, client):
    A, problems, scale = extremes(dtype)
    result = dresoftmax.solve(
        NUMBER_FORMS[form](A), targets_of(problems), unit="exp", persist=False, seed=0,
        client=client,
    )  # fmt: skip
    assert_minima(result, problems, scale)
