"""Covariances beside plain NumPy with automatic differentiation, and by simulation."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from functools import cache

import autograd
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from helpers.commands import run
from helpers.problems import fitted, sparse, synthetic

import dresoftmax

# Errors that are independent leave Σb anywhere.
pytestmark = pytest.mark.filterwarnings("ignore:b.* sums to")

KINDS = ("sandwich", "gauss-newton")


def independent(problem, share=0.05):
    """Add errors to b that do not leave its sum at one."""
    rng = np.random.default_rng(5)
    n = len(problem.b)
    return problem.with_data(b=problem.b + share / n * (1.0 + rng.standard_normal(n)))


PROBLEMS = {
    "exp+linear": lambda: synthetic(n=300, d=3),
    "exp": lambda: synthetic(n=300, d=3, unit="exp"),
    "cosh": lambda: synthetic(n=300, d=3, unit="cosh"),
    "penalised": lambda: synthetic(n=300, d=3, w="vector", ridge=True),
    "scalar w": lambda: synthetic(n=300, d=3, w="scalar"),
    "sparse": lambda: sparse(n=300, d=3),
    "float32": lambda: synthetic(n=300, d=3).with_data(A=synthetic(n=300, d=3).A.astype("f4")),
    "independent errors": lambda: independent(synthetic(n=300, d=3)),
    "independent and penalised": lambda: independent(synthetic(n=300, d=3, w="vector")),
}


def solve(A, b, **options):
    return dresoftmax.solve(A, b, seed=0, tol=1e-10, **options)


def expected(problem, x, kind):
    """State the covariance by its definition, the Jacobian found automatically."""
    A, n, d = problem.dense.astype(float), *problem.A.shape
    J = autograd.jacobian(lambda x: fitted(A, x, problem.unit))(x)
    f = fitted(A, x, problem.unit)
    c = f - problem.b
    J_of_b = J - f @ J if abs(problem.b.sum() - 1.0) < 1e-12 else J
    if kind == "gauss-newton":
        w = np.broadcast_to(0.0 if problem.w is None else problem.w, n)
        H = J.T @ J + A.T @ (w[:, None] ** 2 * A) + problem.ridge * np.eye(d)
        meat = c @ c / (n - d) * J_of_b.T @ J_of_b
    else:
        H = problem.with_data(A=A).hessian(x)
        leverage = np.diag(J @ np.linalg.solve(H, J.T))
        errors = c / (1.0 - leverage)
        meat = (errors[:, None] ** 2 * J_of_b).T @ J_of_b
    return np.linalg.solve(H, np.linalg.solve(H, meat).T)


# --- the matrix ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_matrix_is_that_of_the_definition(name, kind):
    problem = PROBLEMS[name]()
    result = solve(problem.A, problem.b, **problem.options)
    found = dresoftmax.covariance(problem.A, problem.b, result, kind=kind, **problem.options)
    np.testing.assert_allclose(found.matrix, expected(problem, result.x, kind), rtol=1e-6)
    c = problem.residuals(result.x)
    n, d = problem.A.shape
    assert found.sigma == pytest.approx(np.sqrt(c @ c / (n - d)))
    assert found.r_squared == pytest.approx(1 - c @ c / np.sum((problem.b - 1 / n) ** 2))
    assert found.loss == pytest.approx(result.fun)
    assert found.normalized is not name.startswith("independent")
    assert (found.n, found.kind, found.unit) == (n, kind, problem.unit)


def test_targets_are_as_each_alone_and_have_their_names():
    """More of them than are read at once."""
    problem = synthetic(n=300, d=3)
    rng = np.random.default_rng(1)
    B = problem.b[:, None] * rng.uniform(0.8, 1.2, (300, 9))
    A = pd.DataFrame(problem.A, columns=["age", "income", "größe"])
    b = pd.DataFrame(B / B.sum(axis=0), columns=[f"shop {t}" for t in range(9)])
    joint = solve(A, b)
    found = dresoftmax.covariance(A, b, joint)
    for t, each in enumerate(found):
        alone = dresoftmax.covariance(A, b.iloc[:, t], joint[t])
        np.testing.assert_allclose(each.matrix, alone.matrix, rtol=1e-10)
        assert each.names == ("age", "income", "größe")
        assert each.target_name == f"shop {t}"
        assert each.summary().splitlines()[0].strip() == f"shop {t}"


def test_a_unit_of_ones_own_is_as_one_of_the_package():
    problem = independent(synthetic(n=300, d=3, unit="exp"))
    own = dresoftmax.Unit("own", math.exp, math.exp, math.exp)
    found = [
        dresoftmax.covariance(problem.A, problem.b, solve(problem.A, problem.b, unit=u), unit=u)
        for u in ("exp", own)
    ]
    np.testing.assert_allclose(found[1].matrix, found[0].matrix, rtol=1e-6)


def test_on_a_cluster_held_and_loaded(client):
    problem = independent(synthetic(n=2000))
    result = solve(problem.A, problem.b, w=1e-4)
    for kind in KINDS:
        here = dresoftmax.covariance(problem.A, problem.b, result, w=1e-4, kind=kind)
        for persist in (True, False):
            there = dresoftmax.covariance(
                da.from_array(problem.A, chunks=(300, -1)), problem.b, result,
                w=1e-4, kind=kind, persist=persist, client=client,
            )  # fmt: skip
            np.testing.assert_allclose(there.matrix, here.matrix, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_follow_the_scale_of_their_columns(kind):
    problem = synthetic(n=300, d=3)
    scale = np.array([1e6, 1.0, 1e-3])
    plain, scaled = (
        dresoftmax.covariance(A, problem.b, solve(A, problem.b), kind=kind)
        for A in (problem.A, problem.A * scale)
    )
    np.testing.assert_allclose(scaled.standard_errors * scale, plain.standard_errors, rtol=1e-6)
    np.testing.assert_allclose(scaled.p_values, plain.p_values, rtol=1e-4)


# --- coverage ----------------------------------------------------------------------


@cache
def simulated(noise, divided):
    """Return for each kind how often the intervals of 400 fits hold the true x."""
    n, replications, x = 600, 400, np.array([0.8, -0.4])
    rng = np.random.default_rng(0)
    A = rng.uniform(-1.7, 1.7, (n, 2))
    f = fitted(A, x, "exp")
    deviation = {"equal": np.full(n, 0.3 / n), "relative": 0.3 * f}[noise]
    B = f[:, None] + deviation[:, None] * rng.standard_normal((n, replications))
    if divided:
        B /= B.sum(axis=0)
    result = dresoftmax.solve(A, B, unit="exp", hessian="exact", x0=x, seed=0)
    shares = {}
    for kind in KINDS:
        found = dresoftmax.covariance(A, B, result, unit="exp", kind=kind)
        ends = np.array([each.confidence_interval() for each in found])
        shares[kind] = np.mean((ends[..., 0] <= x) & (x <= ends[..., 1]), axis=0)
    return shares


# The share of 400 that covers has a standard deviation of 0.011.  A covariance that is
# half or twice as large as it should be covers in 0.834 or 0.994 of the cases.
NOMINAL = (0.95 - 0.035, 0.95 + 0.035)


@pytest.mark.parametrize("divided", [False, True])
def test_both_kinds_cover_where_all_errors_are_alike(divided):
    for share in simulated("equal", divided).values():
        assert (NOMINAL[0] < share).all()
        assert (share < NOMINAL[1]).all()


@pytest.mark.parametrize("divided", [False, True])
def test_only_the_sandwich_covers_where_errors_differ(divided):
    shares = simulated("relative", divided)
    assert (NOMINAL[0] < shares["sandwich"]).all()
    assert (shares["sandwich"] < NOMINAL[1]).all()
    assert shares["gauss-newton"].min() < 0.85


# --- what follows from it ------------------------------------------------------------


@cache
def example():
    problem = synthetic(n=300, d=3)
    result = solve(problem.A, problem.b)
    return problem, result, dresoftmax.covariance(problem.A, problem.b, result)


def test_errors_tests_and_intervals_are_of_the_normal_distribution():
    _, result, found = example()
    errors = np.sqrt(np.diag(found.matrix))
    np.testing.assert_allclose(found.standard_errors, errors)
    np.testing.assert_allclose(found.z_values, result.x / errors)
    for level, reach in ((0.95, 1.959964), (0.99, 2.575829)):
        ends = found.confidence_interval(level)
        np.testing.assert_allclose(ends.T, [result.x - reach * errors, result.x + reach * errors])
    known = replace(found, x=errors * [1.959964, -2.575829, 0.0])
    np.testing.assert_allclose(known.p_values, [0.05, 0.01, 1.0], rtol=1e-5)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, np.nan])
def test_levels_lie_between_zero_and_one(level):
    with pytest.raises(ValueError, match="level"):
        example()[2].confidence_interval(level)


def test_the_table_has_what_the_properties_have():
    found = example()[2]
    lines = str(found).splitlines()
    assert str(found) == found.summary()
    assert len({len(line) for line in lines if line[0] in "=-"}) == 1
    rows = [line.split() for line in lines[lines.index(lines[-1], 2) + 3 : -1]]
    assert [row[0] for row in rows] == ["x0", "x1", "x2"]
    numbers = np.array([row[1:] for row in rows], dtype=float)
    parts = [found.x, found.standard_errors, found.z_values, found.p_values]
    stated = np.column_stack([*parts, found.confidence_interval()])
    np.testing.assert_allclose(numbers, stated, rtol=1e-2, atol=1e-3)
    for fact in ("Rows:            300", "exp+linear", "HC3", f"{found.r_squared:.4f}"):
        assert fact in str(found)
    assert repr(found).count("±") == 3


def test_a_perfect_fit_has_no_errors_to_speak_of():
    problem = synthetic(n=300, d=3, noise="none")
    found = dresoftmax.covariance(problem.A, problem.b, solve(problem.A, problem.b))
    assert (found.standard_errors < 1e-9).all()
    assert "1.0000" in found.summary()


def test_a_result_remembers_what_was_solved():
    """A scalar w, the ridge and the unit need not be told again; a user's own unit neither."""
    problem = synthetic(n=300, d=3, unit="exp")
    result = solve(problem.A, problem.b, unit="exp", w=1e-3, ridge=1e-4)
    told = dresoftmax.covariance(problem.A, problem.b, result, w=1e-3, ridge=1e-4, unit="exp")
    found = dresoftmax.covariance(problem.A, problem.b, pickle.loads(pickle.dumps(result)))
    np.testing.assert_array_equal(found.matrix, told.matrix)
    assert (result.unit, result.loss, result.ridge, result.w) == ("exp", "squared", 1e-4, 1e-3)
    assert (result.n, result.b_sum) == (300, pytest.approx(1.0))
    own = dresoftmax.Unit("like exp", u=math.exp, du=lambda z: math.exp(z), d2u=math.exp)
    result = solve(problem.A, problem.b, unit=own, w=1e-3, ridge=1e-4)
    again = dresoftmax.covariance(problem.A, problem.b, pickle.loads(pickle.dumps(result)))
    np.testing.assert_allclose(again.matrix, told.matrix, rtol=1e-6)


def test_weights_of_rows_have_to_be_told_again():
    problem = synthetic(n=300, d=3, w="vector")
    result = solve(problem.A, problem.b, w=problem.w)
    assert result.w == "rows"
    with pytest.raises(ValueError, match="a weight w for each row; pass the same w"):
        dresoftmax.covariance(problem.A, problem.b, result)
    assert dresoftmax.covariance(problem.A, problem.b, result, w=problem.w).n == 300


# --- refusals ------------------------------------------------------------------------


def changed(**changes):
    problem = synthetic(n=300, d=3)
    return {"A": problem.A, "b": problem.b, "result": example()[1]} | changes


REFUSED = {
    "other targets": (changed(b=np.roll(example()[0].b, 1)), "not the data of the result"),
    "other rows": (changed(A=1.01 * example()[0].A), "alpha is"),
    "other ridge": (changed(ridge=1e-4), "ridge is 0.0001, but result is of 0.0"),
    "other unit": (changed(unit="exp"), r"unit is 'exp', but result is of 'exp\+linear'"),
    "other w": (changed(w=1e-3), "not the data of the result"),
    "other columns": (changed(A=example()[0].A[:, :2]), "result has 3 coefficients"),
    "two targets": (changed(b=np.ones((300, 2)) / 300), "b has 2"),
    "rescaled loss": (
        changed(result=solve(example()[0].A, example()[0].b, rescaled=True)),
        "result is that of the rescaled loss",
    ),
    "unknown kind": (changed(kind="HC1"), "kind is 'HC1'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_belong_together_is_refused(name):
    arguments, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        dresoftmax.covariance(**arguments)


def test_only_results_of_solve_are_taken():
    problem, result, _ = example()
    with pytest.raises(TypeError, match=r"what dresoftmax.solve returned"):
        dresoftmax.covariance(problem.A, problem.b, result.x)


def test_as_many_rows_as_columns_leave_no_errors():
    A = np.array([[1.0, 0.5], [-1.0, 0.2]])
    b = np.array([0.6, 0.4])
    result = dresoftmax.solve(A, b, ridge=0.1)
    with pytest.raises(ValueError, match="at least 3 rows"):
        dresoftmax.covariance(A, b, result, ridge=0.1)


def test_columns_that_depend_on_each_other_need_ridge():
    problem = synthetic(n=300, d=3)
    A = np.column_stack([problem.A, problem.A[:, 0]])
    with pytest.raises(ValueError, match=r"rank 3.*ridge"):
        dresoftmax.covariance(A, problem.b, solve(A, problem.b))
    found = dresoftmax.covariance(A, problem.b, solve(A, problem.b, ridge=1e-5), ridge=1e-5)
    np.testing.assert_allclose(found.standard_errors[0], found.standard_errors[3], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_column_is_not_determined_by_softmax(kind):
    problem = synthetic(n=300, d=3, unit="exp")
    A = np.column_stack([problem.A, np.ones(300)])
    result = dresoftmax.solve(A, problem.b, unit="exp")
    with pytest.raises(ValueError, match="not positive definite"):
        dresoftmax.covariance(A, problem.b, result, unit="exp", kind=kind)


def test_a_solve_that_has_not_converged_is_warned_of():
    problem = synthetic(n=300, d=3)
    result = dresoftmax.solve(problem.A, problem.b, max_iter=1, tol=1e-12)
    with pytest.warns(UserWarning, match="ITERATION_LIMIT"):
        dresoftmax.covariance(problem.A, problem.b, result)


# --- the command ---------------------------------------------------------------------


def test_the_command_prints_the_table(files, problem):
    outcome = run("solve", files / "A.npy", files / "b.npy", "--quiet", "--summary", "--seed", 0)
    assert outcome.exit_code == 0, outcome.stderr
    result = dresoftmax.solve(problem.A, problem.b, seed=0)
    table = dresoftmax.covariance(problem.A, problem.b, result).summary()
    assert outcome.stdout == f"{table}\n"


def test_the_command_prints_a_table_for_each_target(files, problem):
    np.save(files / "b.npy", np.stack([problem.b, problem.b[::-1]], axis=1))
    outcome = run("solve", files / "A.npy", files / "b.npy", "--summary", "--seed", 0)
    assert outcome.exit_code == 0, outcome.stderr
    assert [line.strip() for line in outcome.stdout.splitlines()].count("b1") == 1
    assert outcome.stdout.count("std err") == 2


def test_the_command_says_why_there_is_no_table(files, problem):
    np.save(files / "A.npy", problem.A[:, [0, 0]])
    outcome = run("solve", files / "A.npy", files / "b.npy", "--quiet", "--summary")
    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    assert "no standard errors: A has rank 1" in outcome.stderr
