"""Lipschitz constants, convergence and sketches, beside brute force in plain NumPy."""

from __future__ import annotations

import math

import autograd
import dask.array as da
import numpy as np
import pytest
import scipy.linalg
from helpers.problems import loss, reference_solution, sparse, synthetic

import dresoftmax
from dresoftmax import theory
from dresoftmax.problem import Problem, open_problem

# --- Lipschitz constants -----------------------------------------------------------------


def test_the_bound_is_the_papers():
    expected = 20.0 * 3.0**-5 * 7**3.5 * math.exp(8.0 * 0.5**2)
    assert theory.lipschitz_bound(3.0, 0.5, 7) == pytest.approx(expected, rel=1e-12)
    assert theory.lipschitz_bound(1e-3, 10.0, 10**9) == math.inf
    assert 0.0 < theory.lipschitz_bound(1e9, 9.0, 10**9) < math.inf


@pytest.fixture(scope="module")
def bent():
    """Give a problem in two dimensions, and its third derivatives where they are asked for."""
    problem = synthetic(n=60, d=2, unit="exp", noise="strong")
    third = autograd.jacobian(
        autograd.hessian(lambda x: loss(problem.A, problem.b, x, problem.unit))
    )
    return problem, third


def in_ball(rng, d, R):
    x = rng.standard_normal(d)
    return R * rng.uniform() ** (1.0 / d) * x / np.linalg.norm(x)


def test_the_estimate_finds_what_brute_force_finds(bent):
    problem, third = bent
    found = theory.lipschitz_estimate(problem.A, problem.b, unit="exp", R=0.5)
    angles = np.linspace(0.0, np.pi, 90)
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    rng = np.random.default_rng(5)
    for x in [np.zeros(2), *(in_ball(rng, 2, 0.5) for _ in range(10))]:
        tensor = third(x)
        steepest = max(np.linalg.norm(tensor @ u, ord=2) for u in directions)
        assert found.adversarial >= (1.0 - 1e-3) * steepest
    for _ in range(30):
        x, y = in_ball(rng, 2, 0.5), in_ball(rng, 2, 0.5)
        change = np.linalg.norm(problem.hessian(x) - problem.hessian(y), ord=2)
        assert found.value >= change / np.linalg.norm(x - y)


def test_the_estimate_is_the_quotient_of_its_pair(bent):
    problem, third = bent
    found = theory.lipschitz_estimate(problem.A, problem.b, unit="exp", R=0.5, pairs=4)
    x, y = found.at
    assert max(np.linalg.norm(x), np.linalg.norm(y)) <= 0.5
    change = np.linalg.norm(problem.hessian(x) - problem.hessian(y), ord=2)
    assert found.value == pytest.approx(change / np.linalg.norm(x - y), rel=1e-6)
    # The search has converged if the direction is its own leading eigenvector.
    tensor, u = third(x), (x - y) / np.linalg.norm(x - y)
    assert abs(tensor @ u @ u @ u) == pytest.approx(found.value, rel=2e-2)


def test_penalties_do_not_count(bent):
    problem, _ = bent
    given = {"unit": "exp", "R": 0.5, "pairs": 2}
    plain = theory.lipschitz_estimate(problem.A, problem.b, **given)
    weighted = theory.lipschitz_estimate(problem.A, problem.b, 0.1, ridge=0.1, **given)
    assert weighted.value == pytest.approx(plain.value, rel=1e-4)


def test_the_estimate_is_below_the_bound():
    """By orders of magnitude: with ‖A‖ ≤ R the bound says nothing."""
    problem = synthetic(n=50, d=2, unit="exp")
    A = problem.A / np.linalg.norm(problem.A, ord=2)
    found = theory.lipschitz_estimate(A, problem.b, unit="exp", pairs=4)
    # α ≥ n·exp(−‖A‖R) within the ball.
    bound = theory.lipschitz_bound(50.0 * math.exp(-1.0), 1.0, 50)
    assert found.value < 1e-3 * bound


def test_points_outside_the_domain_are_left_out():
    A = np.full((20, 1), 1.0)
    b = np.full(20, 0.05)
    # α > 0 needs x > −0.567.
    found = theory.lipschitz_estimate(A, b, R=2.0, pairs=8)
    assert np.isfinite(found.value)
    assert min(found.at) > -0.5672


def test_a_unit_without_any_domain_is_an_error(monkeypatch):
    problem = synthetic(n=60, d=2)
    monkeypatch.setattr(Problem, "trials", lambda self, points: [None] * len(points))
    with pytest.raises(ValueError, match=r"not positive at any of 16 random points within R = 2;"):
        theory.lipschitz_estimate(problem.A, problem.b, R=2.0, pairs=8)


# --- convergence --------------------------------------------------------------------------


def test_predicted_iterations():
    assert theory.predicted_iterations(0.1, 0.1) == 0
    assert theory.predicted_iterations(0.1, 0.1001) == 1
    assert [theory.predicted_iterations(10.0**-k, 1.0, contraction=0.1) for k in range(13)] == list(
        range(13)
    )
    assert theory.predicted_iterations(1e-3, 1.01, contraction=0.1) == 4
    assert theory.predicted_iterations(1e-3, 1.0, contraction=0.0) == 1


def newton_steps(problem, x, target, eps):
    """Return how many plain Newton steps lead from x to within eps of `target`."""
    for count in range(50):
        if np.linalg.norm(x - target) <= eps:
            return count
        x = x - np.linalg.solve(problem.hessian(x), problem.gradient(x))
    raise AssertionError("no convergence")


@pytest.mark.parametrize("unit", ["exp", "exp+linear"])
def test_newton_keeps_what_goodness_promises(unit):
    problem = synthetic(n=60, d=3, cond=2.0, unit=unit)
    best = reference_solution(problem).x
    far = theory.goodness(problem.A, problem.b, best, unit=unit)
    H = problem.hessian(best)
    assert far.l == pytest.approx(np.linalg.eigvalsh(H)[0], rel=1e-6)
    assert far.distance == pytest.approx(np.linalg.norm(best))
    assert far.radius == pytest.approx(0.1 * far.l / far.M)
    assert not far.applies
    with pytest.raises(ValueError, match="x0 is too far"):
        far.predicted_iterations(1e-8)
    worst = np.linalg.eigh(H)[1][:, -1]
    start = best + 0.5 * far.radius * np.sqrt(far.l / np.linalg.norm(H, 2)) * worst
    near = theory.goodness(problem.A, problem.b, best, unit=unit, x0=start)
    assert near.applies
    assert near.distance < near.reach <= near.radius
    assert near.contraction(0.1) < 0.2
    assert near.contraction() < near.contraction(0.05) < near.contraction(0.1)
    predicted = near.predicted_iterations(1e-9)
    assert newton_steps(problem, start, best, 1e-9) <= predicted < 20
    with pytest.raises(ValueError, match=r"sketch_error is 0.9"):
        near.contraction(0.9)


def test_a_saddle_has_no_radius():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 3))
    found = theory.goodness(A, np.eye(40)[0], -2.0 * A[0], unit="exp")
    assert found.l < 0.0 == found.radius
    assert not found.applies
    with pytest.raises(ValueError, match="too far"):
        found.contraction()


# --- sketches --------------------------------------------------------------------------------


@pytest.mark.parametrize("sketch", ["leverage", "uniform", "countsketch"])
def test_more_rows_are_nearer_and_all_are_exact(sketch):
    problem = synthetic(n=2000, d=3, unit="exp")
    given = (problem.A, problem.b, problem.x_true)

    def errors(size):
        kind = {"sketch": sketch, "sketch_size": size, "unit": "exp"}
        return [theory.spectral_error(*given, seed=seed, **kind) for seed in range(5)]

    few, many = np.mean(errors(60)), np.mean(errors(1000))
    assert 0.0 < many < few
    assert many < 0.4
    assert max(errors(2000)) < 1e-10


def test_the_error_is_a_generalised_eigenvalue():
    problem = sparse(n=300, d=3)
    x = 0.3 * problem.x_true
    given = {"sketch": "uniform", "sketch_size": 100}
    found = theory.spectral_error(problem.A, problem.b, x, **given)
    H = problem.hessian(x)
    sketched = sketched_hessian(problem, x, 100)
    values = scipy.linalg.eigh(sketched, H, eigvals_only=True)
    assert found == pytest.approx(np.abs(values - 1.0).max(), rel=1e-6)


def sketched_hessian(problem, x, size):
    """Return the Hessian of the rows that are drawn in the second read after seed 0."""
    with open_problem(problem.A, problem.b) as opened:
        objective = opened.objective("uniform", size)
        point = opened.evaluate(x).point
        exact = objective.evaluate([point], column_gram=True, exact=True)
        return objective.evaluate([point], draw=exact.draw).evaluations[0].hessian


@pytest.mark.parametrize("sketch", ["leverage", "uniform"])
def test_the_basis_does_not_matter_and_the_seed_does(sketch):
    problem = synthetic(n=2000, d=3, unit="exp")
    given = {"sketch": sketch, "sketch_size": 300, "unit": "exp"}
    T = np.array([[1e4, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, 2.0, 1e-3]])
    x = problem.x_true
    one = theory.spectral_error(problem.A, problem.b, x, **given)
    assert theory.spectral_error(problem.A, problem.b, x, **given) == one
    assert theory.spectral_error(problem.A, problem.b, x, seed=1, **given) != one
    if sketch == "uniform":  # the probes of leverage scores follow the basis only in the mean
        turned = theory.spectral_error(problem.A @ T, problem.b, np.linalg.solve(T, x), **given)
        assert turned == pytest.approx(one, rel=1e-6)


def test_on_a_cluster_as_here(client):
    problem = synthetic(n=2000, d=3, unit="exp")
    A = da.from_array(problem.A, chunks=(500, 3))
    given = {"sketch_size": 300, "unit": "exp"}
    here = theory.spectral_error(A, problem.b, problem.x_true, persist=False, **given)
    there = theory.spectral_error(A, problem.b, problem.x_true, client=client, **given)
    assert there == pytest.approx(here, rel=1e-9)
    estimate = {"unit": "exp", "R": 0.5, "pairs": 1}
    here = theory.lipschitz_estimate(problem.A, problem.b, **estimate)
    there = theory.lipschitz_estimate(A, problem.b, client=client, **estimate)
    assert there.value == pytest.approx(here.value, rel=1e-6)


def test_a_sketch_of_an_indefinite_hessian_is_an_error():
    A = np.random.default_rng(0).standard_normal((40, 3))
    with pytest.raises(ValueError, match=r"not positive definite.*smallest eigenvalue is -"):
        theory.spectral_error(A, np.eye(40)[0], -2.0 * A[0], unit="exp", sketch_size=20)


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("lipschitz_bound", {"beta": 0.0, "R": 1.0, "n": 1}, "beta is 0.0"),
        ("lipschitz_bound", {"beta": 1.0, "R": -1.0, "n": 1}, "R is negative"),
        ("lipschitz_bound", {"beta": 1.0, "R": 1.0, "n": 0}, "n is 0"),
        ("lipschitz_estimate", {"R": 0.0}, "R is 0.0"),
        ("lipschitz_estimate", {"pairs": 0}, "pairs is 0"),
        ("spectral_error", {"x": [0, 0], "sketch": "exact", "sketch_size": 3}, "sketch is 'exact'"),
        ("spectral_error", {"x": [0, 0], "sketch_size": 0}, "sketch_size is 0"),
        ("goodness", {"x": [0, 0], "x0": [0]}, r"x0 has shape \(1,\), but A has 2 columns"),
        ("predicted_iterations", {"eps": 0.0, "distance": 1.0}, "eps is 0.0"),
        ("predicted_iterations", {"eps": 1.0, "distance": -1.0}, "distance is negative"),
        (
            "predicted_iterations",
            {"eps": 1.0, "distance": 1.0, "contraction": 1.0},
            "contraction is 1.0; it must be below 1",
        ),
    ],
)
def test_bad_arguments_are_named(function, arguments, message):
    problem = synthetic(n=60, d=2, unit="exp")
    if function not in ("lipschitz_bound", "predicted_iterations"):
        arguments = {"A": problem.A, "b": problem.b} | arguments
    with pytest.raises(ValueError, match=message):
        getattr(theory, function)(**arguments)


def test_the_package_offers_it_without_an_import():
    assert dresoftmax.theory is theory
    assert set(theory.__all__) <= set(dir(theory))
