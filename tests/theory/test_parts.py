"""The parts of the Hessian, and what their bounds guarantee, beside dense n×n matrices."""

from __future__ import annotations

import math
import tracemalloc

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from helpers.dense_parts import dense_parts
from helpers.problems import sparse, synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

import dresoftmax
from dresoftmax import theory
from dresoftmax.inputs.dataset import Dataset
from dresoftmax.model.units import UNITS
from dresoftmax.reductions import panels
from dresoftmax.theory import row_operators as rows

PARTS = ("B_mat", "B_rank", "B_diag", "weight")
KINDS = {
    "plain": synthetic(n=60, d=3),
    "exp": synthetic(n=60, d=3, unit="exp", noise="strong"),
    "scalar": synthetic(n=60, d=3, w="scalar", ridge=True),
    "vector": synthetic(n=60, d=3, w="vector"),
    "sparse": sparse(n=60, d=3, density=0.5),
    "sparse exp": sparse(n=60, d=3, density=0.5, unit="exp"),
}
X = np.array([0.3, -1.0, 0.7])
SOFTPLUS = dresoftmax.Unit(
    "softplus",
    u=lambda z: math.log1p(math.exp(z)),
    du=lambda z: 1.0 / (1.0 + math.exp(-z)),
    d2u=lambda z: math.exp(-z) / (1.0 + math.exp(-z)) ** 2,
)


def close(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 * scale)


def check(parts, problem, x=X):
    """Compare every part with its dense matrix: action, bounds and image; and their sum."""
    A = problem.dense
    y = np.random.default_rng(1).standard_normal(len(A))
    expected = dense_parts(A, problem.b, x, problem.unit, problem.w)
    for name in PARTS:
        part, matrix = getattr(parts, name), expected[name]
        assert part.shape == matrix.shape
        close(part.image, A.T @ matrix @ A)
        close(np.asarray(part @ y), matrix @ y)
        values = np.linalg.eigvalsh(matrix)
        slack = 1e-12 * np.abs(matrix).max()
        assert part.low - slack <= values[0]
        assert values[-1] <= part.high + slack
        if name != "B_mat":
            close([part.low, part.high], values[[0, -1]])
        else:
            assert part.low == 0.0 <= values[0] + slack
    close(parts.hessian(), problem.hessian(x))
    singular = np.linalg.svd(A, compute_uv=False)
    close([parts.sigma_max, parts.sigma_min], singular[[0, -1]])
    return parts


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_those_of_the_dense_matrix(kind, monkeypatch):
    problem = KINDS[kind]
    monkeypatch.setattr(panels, "LEAST_ROWS", 23)
    monkeypatch.setattr(panels, "PANEL_NUMBERS", 70)  # several panels
    parts = theory.hessian_parts(problem.A, problem.b, X, **problem.options)
    check(parts, problem)
    assert isinstance(parts.B_mat @ np.ones(60), np.ndarray)
    D, U = parts.B_mat.diagonal, parts.B_mat.columns
    whole = dense_parts(problem.dense, problem.b, X, problem.unit)["B_mat"]
    close(np.diag(D) + U @ parts.B_mat.core @ U.T, whole)
    np.testing.assert_array_equal(parts.B_rank.diagonal, 0.0)


@pytest.mark.parametrize("unit", ["cosh", "sinh", SOFTPLUS], ids=str)
def test_other_units_have_the_same_parts(unit):
    """Also where u' and u'' are negative in some rows."""
    problem = KINDS["vector"]
    problem = problem.with_data(A=problem.A + 0.3 * np.sign(X), unit=getattr(unit, "name", unit))
    parts = theory.hessian_parts(problem.A, problem.b, X, problem.w, unit=unit)
    check(parts, problem)
    found = theory.psd_certificate(problem.A, problem.b, X, problem.w, unit=unit)
    assert found.bound <= found.smallest
    w = theory.required_weight(problem.A, problem.b, X, 1e-3, unit=unit)
    assert theory.psd_certificate(problem.A, problem.b, X, w, unit=unit).smallest >= 1e-3


@pytest.mark.parametrize("blocks", [np.asarray, scipy.sparse.csr_array])
def test_dask_arrays_have_lazy_products(blocks, tmp_path):
    """Loaded anew in each read, and only when a product is computed."""
    problem = KINDS["vector"]
    A = da.from_array(problem.A, chunks=(25, 3)).map_blocks(
        blocks, dtype=float, meta=blocks(np.empty((0, 3)))
    )
    b = da.from_array(problem.b, chunks=17)
    parts = theory.hessian_parts(A, b, X, w=problem.w, persist=False)
    check(parts, problem)
    product = parts.B_rank @ da.ones(60, chunks=13)
    assert isinstance(product, da.Array)
    assert product.chunks == ((25, 25, 10),)


def test_unknown_lengths_are_found():
    problem = KINDS["plain"]
    A = da.from_array(problem.A, chunks=(25, 3))
    A = A[da.from_array(np.ones(60, dtype=bool), chunks=25)]
    assert np.isnan(A.shape[0])
    check(theory.hessian_parts(A, problem.b, X), problem)
    assert np.isnan(A.shape[0]), "the array is not ours"


def test_on_a_cluster(client):
    problem = KINDS["vector"]
    A = da.from_array(problem.A, chunks=(25, 3))
    for rows_of in (A, problem.A):
        parts = theory.hessian_parts(rows_of, problem.b, X, w=problem.w, client=client)
        check(parts, problem)


def test_threads_share_the_rows(monkeypatch):
    problem = synthetic(n=3000, d=3)
    monkeypatch.setattr(panels, "LEAST_ROWS", 100)
    monkeypatch.setattr(panels, "PANEL_NUMBERS", 300)
    parts = theory.hessian_parts(problem.A, problem.b, X)
    close(parts.hessian(), problem.hessian(X))


def test_no_temporary_is_as_large_as_A():
    A = np.random.default_rng(0).standard_normal((400_000, 8))
    b = np.full(len(A), 1.0 / len(A))
    tracemalloc.start()
    try:
        theory.hessian_parts(A, b, np.zeros(8), w=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.3 * A.nbytes


def test_alpha_beyond_the_largest_float():
    problem = synthetic(n=60, d=3, unit="exp")
    shifted = problem.A.copy()
    shifted[:, 0] += 1000.0
    parts = theory.hessian_parts(shifted, problem.b, np.array([1.0, 0.0, 0.0]), unit="exp")
    assert parts.alpha == np.inf
    # A constant added to Ax does not change f.
    close(
        parts.B_mat @ problem.b,
        dense_parts(problem.A, problem.b, np.eye(3)[0], "exp")["B_mat"] @ problem.b,
    )


def test_a_ray_dataset_has_parts_but_no_products():
    class RayRows:
        shape = (60, 3)

        def collect(self):
            pytest.fail("rows of A do not come here")

    data = Dataset(RayRows(), np.ones(60) / 60, None, None, None)
    factors = rows.RowFactors(data, rows.Point(X, 0.0, 0.0, UNITS["exp"], 0))
    part = rows.Part(60, 0.0, 1.0, np.eye(3), np.zeros((0, 0)), factors, 4, slice(0))
    with pytest.raises(TypeError, match="A is a Ray Dataset"):
        _ = part @ np.ones(60)


# --- certificates -----------------------------------------------------------------------


def lowest(problem, x, w=None, ridge=0.0):
    return np.linalg.eigvalsh(problem.with_data(w=w, ridge=ridge).hessian(x))[0]


@settings(max_examples=25, deadline=None)
@given(
    x=st.tuples(*[st.floats(-2.0, 2.0)] * 3),
    w=st.floats(0.0, 0.3),
    ridge=st.floats(0.0, 0.1),
    noise=st.sampled_from(["none", "strong"]),
)
def test_the_bound_is_below_every_eigenvalue(x, w, ridge, noise):
    problem = synthetic(n=40, d=3, noise=noise, unit="exp")
    x = np.array(x)
    found = theory.psd_certificate(problem.A, problem.b, x, w, ridge=ridge, unit="exp")
    exact = lowest(problem, x, w, ridge)
    slack = 1e-12 * found.largest
    assert found.bound <= exact + slack
    assert found.guaranteed == (found.bound >= 0.0)
    assert found.smallest == pytest.approx(exact, rel=1e-8, abs=1e-9 * found.largest)


@pytest.mark.parametrize("unit", ["exp", "exp+linear"])
@pytest.mark.parametrize("goal", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_the_required_weight_is_enough_and_no_more(unit, goal, ridge):
    problem = synthetic(n=40, d=3, unit=unit, noise="strong")
    given = {"unit": unit, "ridge": ridge}
    w = theory.required_weight(problem.A, problem.b, X, goal, **given)
    found = theory.psd_certificate(problem.A, problem.b, X, w, **given)
    assert found.bound >= goal * (1.0 - 1e-12)
    assert lowest(problem, X, w, ridge) >= goal * (1.0 - 1e-9)
    if w > 0.0:
        less = theory.psd_certificate(problem.A, problem.b, X, 0.99 * w, **given)
        assert less.bound < goal


def test_the_hessian_is_indefinite_without_weight():
    """What the paper says of it in general does not hold; with the required weight it does."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 3))
    b = np.eye(40)[0]
    x = -2.0 * A[0]
    found = theory.psd_certificate(A, b, x, unit="exp")
    assert found.smallest < 0.0
    assert not found.guaranteed
    H = theory.hessian_parts(A, b, x, unit="exp").hessian()
    close(H @ found.direction, found.smallest * found.direction)
    w = theory.required_weight(A, b, x, unit="exp")
    assert theory.psd_certificate(A, b, x, w, unit="exp").guaranteed


def test_dependent_columns_cannot_be_curved_by_weight():
    problem = synthetic(n=40, d=2)
    A = np.column_stack([problem.A, problem.A.sum(axis=1)])
    assert theory.hessian_parts(A, problem.b, X).sigma_min == 0.0
    with pytest.raises(ValueError, match=r"rank-deficient.*ridge >= 0\.5"):
        theory.required_weight(A, problem.b, X, 0.5)
    w = theory.required_weight(A, problem.b, X, 0.5, ridge=0.5)
    found = theory.psd_certificate(A, problem.b, X, w, ridge=0.5)
    assert found.guaranteed
    assert found.smallest >= 0.5 * (1.0 - 1e-9)
    assert theory.psd_certificate(A, problem.b, X, 10.0).guaranteed, "semidefinite, not more"


# --- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": [1.0, 2.0]}, r"x has shape \(2,\), but A has 3 columns"),
        ({"x": [1.0, np.nan, 0.0]}, "x contains NaN or infinity"),
        ({"x": ["a", "b", "c"]}, "x is .*; pass a vector of 3 real numbers"),
        ({"x": da.zeros(3)}, "x is a dask array"),
        ({"b": np.ones((60, 2)) / 60}, "b has 2 columns; pass one of them"),
        ({"x": -100.0 * np.ones(3), "A": np.ones((60, 3))}, "outside the domain"),
        ({"unit": "tanh"}, "unit is 'tanh'"),
        ({"w": -1.0}, "w is negative"),
        ({"ridge": -1.0}, "ridge is negative"),
        ({"persist": 1}, "persist is 1"),
        ({"client": 1}, "client is 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    problem = KINDS["plain"]
    arguments = {"A": problem.A, "b": problem.b, "x": X} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        theory.hessian_parts(**arguments)


def test_a_negative_goal_is_an_error():
    problem = KINDS["plain"]
    with pytest.raises(ValueError, match="l is negative: -1"):
        theory.required_weight(problem.A, problem.b, X, -1)


def test_products_want_a_vector_for_each_row():
    problem = KINDS["plain"]
    part = theory.hessian_parts(problem.A, problem.b, X).B_mat
    with pytest.raises(ValueError, match=r"y has shape \(3,\).*length 60"):
        _ = part @ np.ones(3)
