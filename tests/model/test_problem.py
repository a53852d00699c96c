"""A problem at given points, beside plain NumPy and automatic differentiation."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.problems import Problem, alpha, sparse, synthetic

from dresoftmax.problem import open_problem


@pytest.mark.parametrize("make", [synthetic, sparse])
def test_everything_is_exact_at_any_point(make):
    problem = make(n=300, d=3)
    points = [scale * np.array([0.3, -1.0, 0.7]) for scale in (0.0, 1.0, 4.0)]
    with open_problem(problem.A, problem.b, w=1e-3, ridge=1e-4) as opened:
        found = opened.evaluate_all(points)
        assert opened.n == 300
    stated = problem.with_data(w=1e-3, ridge=1e-4)
    for x, model in zip(points, found, strict=True):
        np.testing.assert_allclose(model.alpha, alpha(problem.dense, x), rtol=1e-12)
        np.testing.assert_allclose(model.loss, stated.loss(x), rtol=1e-11)
        np.testing.assert_allclose(model.gradient, stated.gradient(x), rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(model.hessian, stated.hessian(x), rtol=1e-9, atol=1e-15)


def test_alpha_beyond_the_largest_float(problem):
    x = 2000.0 * np.eye(problem.A.shape[1])[0]
    with open_problem(problem.A, problem.b, unit="exp") as opened:
        model = opened.evaluate(x)
    z = problem.A @ x
    assert model.alpha == np.inf
    expected = z.max() + np.log(np.exp(z - z.max()).sum())
    np.testing.assert_allclose(model.log_alpha, expected, rtol=1e-14)


def test_alpha_of_a_unit_that_grows_on_both_sides():
    A = np.array([[1.0, 0.0], [0.5, 1.0], [0.9, 2.0]])
    with open_problem(A, np.full(3, 1 / 3), unit="cosh") as opened:
        model = opened.evaluate(np.array([-1000.0, 0.0]))
    np.testing.assert_allclose(model.log_alpha, 1000.0 - np.log(2.0), rtol=1e-14)


def test_a_point_outside_the_domain_is_an_error():
    A = np.array([[1.0], [2.0]])
    with (
        open_problem(A, np.array([0.5, 0.5])) as opened,
        pytest.raises(ValueError, match="outside the domain"),
    ):
        opened.evaluate(np.array([-2.0]))


def test_points_of_several_targets_some_outside_the_domain():
    A = np.array([[1.0], [2.0], [-0.5]])
    b = np.array([[0.2, 0.3, 0.1], [0.5, 0.5, 0.2], [0.3, 0.2, 0.7]])
    points = [np.array([x]) for x in (0.1, -2.0, 0.3)]
    with open_problem(A, b) as opened:
        first, outside, last = opened.trials(points, [2, 0, 1])
    assert outside is None
    for x, model, target in ((0.1, first, 2), (0.3, last, 1)):
        stated = Problem(A, b[:, target])
        np.testing.assert_allclose(model.loss, stated.loss(np.array([x])), rtol=1e-12)
        np.testing.assert_allclose(model.hessian, stated.hessian(np.array([x])), rtol=1e-9)
