"""Where the problem itself fails, the solver says so; where it only looks hard, it does not.

Three families: optima that lie at infinity, data that do not determine x, and
scales or shapes at the edge of what a float can hold.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from helpers.problems import (
    UNITS,
    Problem,
    fitted,
    loss,
    reference_solution,
    spectrum_matrix,
    synthetic,
    target,
)

import dresoftmax
from dresoftmax import Status

TOL = 1e-11


def solve(problem, **options):
    options = {"tol": TOL, "seed": 0, **problem.options, **options}
    return dresoftmax.solve(problem.A, problem.b, **options)


def assert_converged_to(result, x, rtol=1e-8):
    assert result.status is Status.CONVERGED, result.message
    assert np.linalg.norm(result.x - x) <= rtol * np.linalg.norm(x)


# --- solutions at infinity -------------------------------------------------------


def softmax_with_constant_column(noise):
    """With b = softmax(Bx), u = eᵗ exp(Bx) + Bx + t fits ever better as t → ∞."""
    rng = np.random.default_rng(0)
    B = spectrum_matrix(300, 3, 5.0, rng)
    b = target(B, np.array([2.0, -1.6, 1.2]), "exp", noise, rng)
    return Problem(np.column_stack([B, np.ones(300)]), b)


def one_row(unit):
    """All of b on the row of largest norm, which is a vertex of the rows' hull."""
    A = spectrum_matrix(300, 3, 5.0, np.random.default_rng(0))
    b = np.zeros(300)
    b[np.argmax(np.linalg.norm(A, axis=1))] = 1.0
    return Problem(A, b, unit)


def corner(n, unit):
    """Put b on one corner of a regular simplex: n rows in n − 1 dimensions."""
    A = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]
    return Problem(A, np.eye(n)[0], unit)


AT_INFINITY = {
    "constant column": lambda: softmax_with_constant_column("none"),
    "constant column, noisy b": lambda: softmax_with_constant_column("mild"),
    "b on one row, exp": lambda: one_row("exp"),
    "b on one row, exp+linear": lambda: one_row("exp+linear"),
    "b on one of two rows": lambda: corner(2, "exp"),
    # at x = 0 the Hessian is zero along the gradient
    "b on one of three rows": lambda: corner(3, "exp"),
    "b on one of five rows": lambda: corner(5, "exp"),
}


@pytest.mark.parametrize("tol", [1e-6, 1e-8, 1e-11])
@pytest.mark.parametrize("make", AT_INFINITY.values(), ids=AT_INFINITY)
def test_a_solution_at_infinity_has_its_own_status_and_advice(make, tol):
    problem = make()
    result = solve(problem, tol=tol)
    assert result.status is Status.SOLUTION_AT_INFINITY, result.message
    assert result.success is False
    assert np.isfinite([*result.x, result.fun]).all()
    assert result.fun < problem.loss(np.zeros(problem.A.shape[1]))
    assert "ridge" in result.message


@pytest.mark.parametrize("make", AT_INFINITY.values(), ids=AT_INFINITY)
def test_the_advice_works(make):
    """With a ridge of the order of the loss the same data have an optimum."""
    problem = make()
    problem = problem.with_data(ridge=1e-3 / len(problem.b))
    result = solve(problem)
    assert_converged_to(result, reference_solution(problem).x)


def test_a_constant_column_alone_is_no_solution_at_infinity():
    """Here b was made by the unified unit: the optimum is inside, with t = 0."""
    B = spectrum_matrix(300, 3, 5.0, np.random.default_rng(0))
    x = np.array([0.5, -0.4, 0.3])
    result = solve(Problem(np.column_stack([B, np.ones(300)]), fitted(B, x)))
    assert result.status is Status.CONVERGED, result.message
    np.testing.assert_allclose(result.x, [*x, 0.0], atol=1e-7)


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4])
def test_a_nearly_constant_column_puts_the_solution_far_out_but_not_at_infinity(noise):
    """The optimum is certified: its last entry is 1.7, 5.2 and 8.0."""
    problem = softmax_with_constant_column("none")
    A = problem.A.copy()
    A[:, 3] += noise * np.random.default_rng(1).standard_normal(300)
    problem = problem.with_data(A=A)
    assert_converged_to(solve(problem), reference_solution(problem).x, rtol=1e-7)


def test_a_constant_column_is_free_in_softmax_regression():
    """exp(z + t) normalises to the same f: t is undetermined, the rest is not."""
    problem = synthetic(n=300, d=3, unit="exp")
    result = solve(problem.with_data(A=np.column_stack([problem.A, np.ones(300)])), tol=1e-9)
    assert result.status is Status.CONVERGED, result.message
    np.testing.assert_allclose(result.x[:3], reference_solution(problem).x, rtol=1e-7)
    assert abs(result.x[3]) < 10


# --- data that do not determine x ------------------------------------------------


def duplicated(B):
    return np.column_stack([B, B[:, 0]])


def zero_column(B):
    return np.column_stack([B[:, :2], np.zeros(len(B)), B[:, 2:]])


def tripled(B):
    return np.column_stack([B, 2 * B, -B])


def combination(B):
    return np.column_stack([B, B @ np.arange(1.0, B.shape[1] + 1)])


DEFICIENT = [duplicated, zero_column, tripled, combination]


@pytest.mark.parametrize("widen", DEFICIENT)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", ["exact", "leverage", "csr"])
def test_rank_deficient_data_give_the_solution_of_least_norm(widen, unit, kind):
    base = synthetic(n=600, d=4, unit=unit, noise="strong")
    wide = base.with_data(A=widen(base.A))
    data = wide.with_data(A=scipy.sparse.csr_array(wide.A)) if kind == "csr" else wide
    result = solve(data, hessian="auto" if kind == "csr" else kind)
    assert result.rank == 4
    assert_converged_to(result, reference_solution(wide).x)


def test_least_norm_does_not_depend_on_the_start():
    base = synthetic(n=600, d=4)
    wide = base.with_data(A=duplicated(base.A))
    result = solve(wide, x0=np.array([3.0, 0.0, 0.0, 0.0, -3.0]))
    assert_converged_to(result, reference_solution(wide).x)


@pytest.mark.parametrize("cond", [1e3, 1e6])
@pytest.mark.parametrize("unit", UNITS)
def test_nearly_equal_columns_are_told_apart(unit, cond):
    """Full rank though barely: x is the certified one, not the one of least norm."""
    rng = np.random.default_rng(4)
    A = spectrum_matrix(800, 4, 3.0, rng)
    A[:, 3] = A[:, 0] + A[:, 3] / cond
    x_true = np.array([0.3, -0.5, 0.4, 0.2])
    problem = Problem(A, target(A, x_true, unit, "none", rng), unit)
    result = solve(problem)
    assert result.rank == 4
    z = A @ x_true
    assert np.linalg.norm(A @ result.x - z) <= 1e-8 * np.linalg.norm(z)
    assert_converged_to(result, x_true, rtol=1e-9 * cond)


@pytest.mark.parametrize("unit", UNITS)
def test_fewer_rows_than_columns(unit):
    """Six rows, ten columns: b can be met exactly, by the x of least norm."""
    rng = np.random.default_rng(6)
    A = rng.standard_normal((6, 10))
    b = fitted(A, 0.1 * rng.standard_normal(10), unit)
    result = solve(Problem(A, b, unit))
    assert result.status is Status.CONVERGED, result.message
    assert result.rank == 6
    np.testing.assert_allclose(fitted(A, result.x, unit), b, rtol=1e-8)
    in_row_space = np.linalg.pinv(A) @ (A @ result.x)
    np.testing.assert_allclose(result.x, in_row_space, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("shape", [(50, 3), (1, 1), (1, 4)])
def test_nothing_but_zeros(shape):
    n = shape[0]
    result = solve(Problem(np.zeros(shape), np.full(n, 1 / n)))
    assert result.status is Status.CONVERGED, result.message
    assert result.rank == 0
    np.testing.assert_array_equal(result.x, np.zeros(shape[1]))


@pytest.mark.parametrize("x0", [None, [0.3, 0.1]])
@pytest.mark.parametrize("unit", UNITS)
def test_one_row_is_always_fitted(unit, x0):
    """Whatever x is, f = 1, as long as α > 0."""
    result = solve(Problem(np.array([[2.0, -1.0]]), np.ones(1), unit), x0=x0)
    assert result.status is Status.CONVERGED, result.message
    assert result.fun == 0.0
    assert np.isfinite(result.x).all()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("n", [2, 3, 400])
def test_one_column(unit, n):
    A = np.linspace(-1.0, 1.0, n)[:, None]
    result = solve(Problem(A, fitted(A, np.array([0.4]), unit), unit))
    assert_converged_to(result, np.array([0.4]))


SKETCHES = ["leverage", "uniform", "countsketch"]


@pytest.mark.parametrize("hessian", SKETCHES)
@pytest.mark.parametrize("n", [6, 12, 50])
@pytest.mark.parametrize("unit", UNITS)
def test_a_sketch_of_very_few_rows_is_exact(unit, n, hessian):
    problem = synthetic(n=n, d=4, unit=unit, cond=3.0)
    result = solve(problem, hessian=hessian)
    assert result.rank == 4
    assert_converged_to(result, reference_solution(problem).x)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hessian", ["leverage", "countsketch"])
def test_columns_that_few_rows_have_are_not_taken_for_missing(hessian, seed):
    """Two of six columns live in 10 of 8,000 rows; a sketch keeps 400 rows."""
    rng = np.random.default_rng(seed)
    A = np.column_stack([spectrum_matrix(8000, 4, 3.0, rng), np.zeros((8000, 2))])
    A[rng.choice(8000, 10, replace=False), 4:] = 3.0 * rng.standard_normal((10, 2))
    x = np.array([0.3, -0.4, 0.2, 0.5, 0.6, -0.5])
    problem = Problem(A, target(A, x, "exp", "mild", rng), "exp")
    result = solve(problem, hessian=hessian, sketch_size=400, tol=1e-8)
    assert result.rank == 6
    assert_converged_to(result, reference_solution(problem).x, rtol=1e-6)


# --- extreme scales --------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e3, 1e-6, 1e100, 1e-100])
@pytest.mark.parametrize("unit", UNITS)
def test_the_scale_of_A_is_that_of_x_and_of_nothing_else(unit, scale):
    problem = synthetic(unit=unit, noise="strong", cond=100.0)
    result = solve(problem.with_data(A=problem.A * scale))
    assert_converged_to(result, reference_solution(problem).x / scale)


def test_a_column_whose_squares_overflow_is_named():
    problem = synthetic(n=200)
    A = problem.A * [1.0, 1.0, 1e200, 1.0, 1.0]
    with pytest.raises(ValueError, match="A is too large: the squares of column 2 overflow"):
        solve(problem.with_data(A=A))


@pytest.mark.parametrize("unit", UNITS)
def test_columns_of_very_different_scale(unit):
    problem = synthetic(unit=unit, cond=10.0)
    scales = np.array([1e-4, 1e-2, 1.0, 1e2, 1e4])
    result = solve(problem.with_data(A=problem.A * scales))
    assert result.rank == 5
    np.testing.assert_allclose(result.x * scales, reference_solution(problem).x, rtol=1e-7)


@pytest.mark.parametrize("unit", UNITS)
def test_a_trial_that_overflows_is_harmless(unit):
    """One row and its mirror image are 5,000 times longer: early trials reach z = ±800."""
    rng = np.random.default_rng(8)
    A = spectrum_matrix(400, 3, 2.0, rng)
    x_true = np.array([0.5, -0.4, 0.3])
    far = 5000 * np.cross(x_true, [0.0, 0.0, 1.0])  # orthogonal to x_true
    A = np.concatenate([A, [far, -far]])
    problem = Problem(A, fitted(A, x_true, unit), unit)
    assert np.abs(A @ np.array([0.5, 0.4, 0.3])).max() > 800
    result = solve(problem)
    assert_converged_to(result, x_true)


@pytest.mark.parametrize("unit", UNITS)
def test_a_target_of_zeros_is_answered_by_the_flattest_fit(unit):
    """‖b‖ = 0 makes every relative tolerance zero; the optimum is f = 1/n at x = 0."""
    A = synthetic(n=200, d=3).A
    with pytest.warns(UserWarning, match=r"\bb\b"):
        result = solve(Problem(A, np.zeros(200), unit), x0=np.array([0.3, 0.1, -0.2]))
    assert result.status in (Status.CONVERGED, Status.NUMERICAL_LIMIT), result.message
    np.testing.assert_allclose(result.x, np.zeros(3), atol=1e-6)


@pytest.mark.parametrize("tol", [1e-14, 1e-16, 1e-300])
def test_a_tolerance_below_rounding_ends_at_the_numerical_limit(tol):
    problem = synthetic(n=2000, cond=100.0, noise="strong")
    result = solve(problem, tol=tol)
    assert result.status in (Status.CONVERGED, Status.NUMERICAL_LIMIT)
    assert result.data_passes < 40, "iterates on rounding errors"
    reference = reference_solution(problem)
    assert np.linalg.norm(result.x - reference.x) <= 1e-9 * np.linalg.norm(reference.x)


@pytest.mark.parametrize("unit", UNITS)
def test_weights_far_too_large_pull_z_to_zero(unit):
    problem = synthetic(unit=unit).with_data(w=1e3)
    result = solve(problem)
    assert result.status is Status.CONVERGED, result.message
    assert np.abs(problem.A @ result.x).max() < 1e-6
    assert result.fun <= loss(problem.A, problem.b, np.zeros(5), unit)


def test_the_origin_is_not_read_twice():
    """Rounding may put its loss above the one that is known of it in advance."""
    rng = np.random.default_rng(0)
    for n in (200, 999, 2000):
        A = rng.normal(size=(n, 4))
        result = dresoftmax.solve(A, np.eye(n)[0], unit="exp", max_iter=1)
        assert result.history[0].step == "start"
        assert result.history[0].rows_read == n
