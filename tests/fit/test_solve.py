"""The public solve against certified optima, on every path that data can take.

Everything here is observed from outside: what `solve` returns is compared with
`problems.py`, which shares no code with the package.
"""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from helpers.problems import (
    UNITS,
    Problem,
    alpha,
    attention,
    counted,
    fitted,
    loads,
    reference_solution,
    sparse,
    spectrum_matrix,
    synthetic,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dresoftmax
from dresoftmax import Status

HESSIANS = ["exact", "leverage", "uniform", "countsketch", "auto"]
TOL = 1e-11


def solve(problem, **options):
    """Solve to nearly full precision: the references are compared to 1e-8."""
    options = {"tol": TOL, "seed": 0, **problem.options, **options}
    return dresoftmax.solve(problem.A, problem.b, **options)


def assert_optimum(result, problem, rtol=1e-8):
    """Converged, at the reference in x, in z = Ax and in the objective."""
    reference = reference_solution(problem)
    assert result.status is Status.CONVERGED, result.message
    assert result.success is True
    np.testing.assert_allclose(result.fun, reference.fun, rtol=rtol)
    error = result.x - reference.x
    assert np.linalg.norm(error) <= rtol * np.linalg.norm(reference.x)
    z = problem.dense @ reference.x
    assert np.linalg.norm(problem.dense @ error) <= rtol * np.linalg.norm(z)


def chunked(problem, rows, b_rows=None):
    """Put the problem on dask arrays cut into the given row chunks."""
    A = da.from_array(problem.A, chunks=(rows, -1), asarray=False)
    return problem.with_data(A=A, b=da.from_array(problem.b, chunks=(b_rows or rows,)))


# --- the optimum -----------------------------------------------------------------


@pytest.mark.parametrize("noise", ["mild", "strong"])
@pytest.mark.parametrize("cond", [10.0, 1e4])
@pytest.mark.parametrize("ridge", [False, True], ids=["", "ridge"])
@pytest.mark.parametrize("w", [None, "scalar", "vector"])
@pytest.mark.parametrize("unit", UNITS)
def test_reaches_the_certified_optimum(unit, w, ridge, cond, noise):
    problem = synthetic(unit=unit, w=w, ridge=ridge, cond=cond, noise=noise)
    assert_optimum(solve(problem), problem)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("hessian", HESSIANS)
def test_every_hessian_ends_at_the_same_optimum(hessian, unit):
    problem = synthetic(n=3000, d=8, cond=100.0, unit=unit, noise="strong", w="vector")
    result = solve(problem, hessian=hessian)
    assert_optimum(result, problem)
    assert result.hessian_kind in (HESSIANS[:-1] if hessian == "auto" else [hessian])


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("hessian", ["leverage", "uniform", "countsketch"])
def test_a_small_sketch_costs_iterations_but_not_accuracy(hessian):
    problem = synthetic(n=3000, d=8, cond=100.0)
    result = solve(problem, hessian=hessian, sketch_size=400, tol=1e-8)
    assert_optimum(result, problem, rtol=1e-6)
    sketched = [r.rows_sketched for r in result.history if r.phase == "full"]
    assert len(sketched) > 1
    if hessian != "countsketch":  # row sampling keeps 400 rows in expectation
        assert 0 < max(sketched) < 800


def test_exact_hessian_uses_every_row():
    result = solve(synthetic(n=1000), hessian="exact")
    full = [r for r in result.history if r.phase == "full"]
    assert {r.rows_sketched for r in full} == {1000}


def test_affine_change_of_variables_changes_x_accordingly():
    problem = synthetic(cond=100.0)
    T = np.array(np.random.default_rng(1).standard_normal((5, 5)))
    result = solve(problem.with_data(A=problem.A @ T))
    np.testing.assert_allclose(T @ result.x, reference_solution(problem).x, rtol=1e-7)


# --- the layout of the data ------------------------------------------------------

SMALL = {"n": 90, "d": 3, "w": "vector"}
CHUNKS = {
    "one row each": 1,
    "uneven": (1, 50, 7, 32),
    "one chunk": -1,
    "empty first": (0, 45, 45),
    "empty between": (45, 0, 45),
    "empty last": (90, 0),
}


@pytest.mark.parametrize("rows", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("unit", UNITS)
def test_the_answer_does_not_depend_on_chunks(rows, unit):
    problem = synthetic(unit=unit, **SMALL)
    assert_optimum(solve(chunked(problem, rows)), problem)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(0, 90), max_size=6), b_cuts=st.lists(st.integers(1, 89), max_size=3)
)
def test_any_partition_of_the_rows_gives_the_same_optimum(cuts, b_cuts):
    problem = synthetic(**SMALL)
    rows = tuple(np.diff([0, *sorted(cuts), 90]).tolist())
    b_rows = tuple(np.diff([0, *sorted(set(b_cuts)), 90]).tolist())
    assert_optimum(solve(chunked(problem, rows, b_rows)), problem)


def test_column_chunks_and_lazy_weights_are_aligned_with_the_rows():
    problem = synthetic(**SMALL)
    split = problem.with_data(
        A=da.from_array(problem.A, chunks=(40, 2)),
        b=da.from_array(problem.b, chunks=17),
        w=da.from_array(problem.w, chunks=31),
    )
    assert_optimum(solve(split), problem)


def test_lazy_data_are_loaded_exactly_once(tmp_path):
    """Checking, sampling and iterating all use the blocks that were loaded once."""
    problem = synthetic(n=2000, noise="strong")
    assert_optimum(solve(problem.with_data(A=counted(problem.A, 250, tmp_path))), problem)
    assert loads(tmp_path) == [1] * 8


def test_unknown_chunk_sizes_are_found_out():
    """As they come from a filter or a data frame."""
    problem = synthetic(**SMALL)
    lazy = chunked(problem, (30, 40, 20))
    keep = da.from_array(np.ones(90, dtype=bool), chunks=((30, 40, 20),))
    unknown = lazy.with_data(A=lazy.A[keep], b=lazy.b[keep])
    assert np.isnan(unknown.A.shape[0])
    assert_optimum(solve(unknown), problem)


def test_order_of_the_rows_does_not_matter():
    problem = synthetic(n=1500, d=6, w="vector")
    order = np.argsort(problem.b)
    rows = {name: getattr(problem, name)[order] for name in ("A", "b", "w")}
    assert_optimum(solve(problem.with_data(**rows)), problem)


SPARSE = {
    "csr_array": scipy.sparse.csr_array,
    "csr_matrix": scipy.sparse.csr_matrix,
    "csc_array": scipy.sparse.csc_array,
    "coo_array": scipy.sparse.coo_array,
    "dask of csr_array": lambda A: _dask_of(scipy.sparse.csr_array(A)),
    "dask of csr_matrix": lambda A: _dask_of(scipy.sparse.csr_matrix(A)),
    "dense": lambda A: A.toarray(),
    "Fortran order": lambda A: np.asfortranarray(A.toarray()),
    "strided": lambda A: np.repeat(A.toarray(), 2, axis=0)[::2],
    "csr, 64-bit indices": lambda A: _long_indices(scipy.sparse.csr_array(A)),
    "big-endian": lambda A: A.toarray().astype(">f8"),
    "read-only": lambda A: _read_only(A.toarray()),
}


def _dask_of(A, rows=300):
    return da.from_array(A, chunks=(rows, -1), asarray=False)


def _long_indices(A):
    A.indices, A.indptr = A.indices.astype(np.int64), A.indptr.astype(np.int64)
    return A


def _read_only(A):
    A.flags.writeable = False
    return A


@pytest.mark.parametrize("form", SPARSE.values(), ids=SPARSE)
@pytest.mark.parametrize("hessian", ["exact", "leverage", "countsketch"])
@pytest.mark.parametrize("unit", UNITS)
def test_dense_and_sparse_forms_agree(form, hessian, unit):
    problem = sparse(unit=unit)
    assert_optimum(solve(problem.with_data(A=form(problem.A)), hessian=hessian), problem)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_short_floats_are_summed_in_float64(dtype, lazy):
    problem = synthetic(n=2000, cond=10.0)
    short = problem.with_data(A=problem.A.astype(dtype), b=problem.b.astype("float32"))
    same_values = short.with_data(A=short.A.astype(float), b=short.b.astype(float))
    result = solve(chunked(short, 700) if lazy else short)
    assert result.x.dtype == np.float64
    assert_optimum(result, same_values)


def test_integer_data_is_accepted():
    rng = np.random.default_rng(3)
    half = rng.integers(-2, 3, (150, 3))
    A = np.concatenate([half, -half])
    b = fitted(A, np.array([0.3, -0.2, 0.4])) * rng.uniform(0.9, 1.1, 300)
    problem = Problem(A, b / b.sum())
    assert_optimum(solve(problem), problem.with_data(A=A.astype(float)))


# --- where the solve begins ------------------------------------------------------


@pytest.mark.parametrize("peak", [0.0, 1.0, 10.0, 300.0, 650.0, 800.0])
@pytest.mark.parametrize("unit", UNITS)
def test_warm_start_from_any_point_of_the_domain(unit, peak):
    """Max |A x0| = peak; exp overflows above 709, and every α here is positive."""
    problem = synthetic(unit=unit, noise="strong")
    direction = np.random.default_rng(5).standard_normal(5)
    x0 = direction * peak / np.abs(problem.A @ direction).max()
    result = solve(problem, x0=x0)
    assert np.isfinite([*result.x, result.fun]).all()
    assert_optimum(result, problem)


@pytest.mark.parametrize("shift", [-900.0, -700.0, 700.0, 900.0])
def test_softmax_start_where_every_exponential_underflows_or_overflows(shift):
    """A constant column shifts all z; f and the loss do not change by it."""
    problem = synthetic(n=300, d=3, unit="exp")
    shifted = problem.with_data(A=np.column_stack([problem.A, np.ones(300)]))
    result = solve(shifted, x0=[0.0, 0.0, 0.0, shift], tol=1e-9)
    assert result.status is Status.CONVERGED, result.message
    np.testing.assert_allclose(result.x[:3], reference_solution(problem).x, rtol=1e-7)


def test_starting_at_the_optimum_costs_almost_nothing():
    problem = synthetic(n=2000)
    result = solve(problem, x0=reference_solution(problem).x, tol=1e-8)
    assert_optimum(result, problem)
    assert result.data_passes <= 4


# --- on any data at all ----------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 40),
    d=st.integers(1, 4),
    spread=st.sampled_from([1e-3, 0.1, 1.0, 10.0]),
    unit=st.sampled_from(list(UNITS)),
    hessian=st.sampled_from(HESSIANS),
    warm=st.booleans(),
)
def test_a_claim_of_convergence_is_true_on_random_data(seed, n, d, spread, unit, hessian, warm):
    """Here b has nothing to do with A, so that indefinite Hessians and runaways occur."""
    rng = np.random.default_rng(seed)
    d = min(d, n)
    A = spectrum_matrix(n, d, 5.0, rng) * spread if n > 1 else np.zeros((1, d))
    problem = Problem(A, rng.dirichlet(np.full(n, 0.3)), unit)
    x0 = rng.standard_normal(d) / spread if warm else np.zeros(d)
    assume(alpha(A, x0, unit) > 0)
    result = solve(problem, tol=1e-8, hessian=hessian, x0=x0)
    assert np.isfinite(result.x).all()
    np.testing.assert_allclose(result.fun, problem.loss(result.x), rtol=1e-9, atol=1e-20)
    assert result.fun <= problem.loss(x0) * (1 + 1e-12)
    if result.success:
        H, g = problem.hessian(result.x), problem.gradient(result.x)
        eigenvalues = np.linalg.eigvalsh(H)
        assert eigenvalues[0] >= -1e-6 * abs(eigenvalues[-1])
        decrement = np.sqrt(abs(g @ np.linalg.pinv(H, rcond=1e-10) @ g))
        assert decrement <= 1e-7 * np.linalg.norm(problem.b)


# --- real data -------------------------------------------------------------------


@pytest.mark.parametrize("query", range(8))
def test_the_query_of_an_attention_head_comes_back(query):
    problem = attention("exp", query)
    result = solve(chunked(problem, 2000), tol=1e-8)
    assert result.status is Status.CONVERGED, result.message
    np.testing.assert_allclose(result.x, problem.x_true, atol=1e-6, rtol=0)
    assert result.data_passes < 12


@pytest.mark.parametrize("query", [0, 3])
def test_the_unified_regression_on_attention_data(query):
    """The residual is not zero here; the optimum is compared with SciPy's."""
    problem = attention("exp+linear", query)
    result = solve(problem, tol=1e-8)
    assert result.status is Status.CONVERGED, result.message
    assert result.fun <= reference_solution(problem).fun * (1 + 1e-7)
    assert result.data_passes < 12
