"""A sketch that misses directions of A must not pass for a solution."""

from __future__ import annotations

import numpy as np
import pytest

import dresoftmax


@pytest.fixture(scope="module")
def nearly_equal_columns():
    """Return A, b where two columns differ in three of 40,000 rows."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(40_000, 12))
    A[:, 11] = A[:, 10]
    A[rng.choice(len(A), 3, replace=False), 11] += 3
    z = A @ (0.5 * rng.normal(size=12))
    b = np.abs(np.exp(z) * (1 + 0.1 * rng.normal(size=len(A))))
    return A, b / b.sum()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hessian", ["leverage", "uniform", "countsketch"])
@pytest.mark.parametrize("size", [500, 2000])
def test_success_means_the_optimum_also_where_a_sketch_misses_rows(
    nearly_equal_columns, hessian, size, seed
):
    A, b = nearly_equal_columns
    options = {"unit": "exp", "seed": seed, "max_iter": 30, "tol": 1e-9}
    best = dresoftmax.solve(A, b, hessian="exact", **options)
    result = dresoftmax.solve(A, b, hessian=hessian, sketch_size=size, **options)
    assert best.success
    if result.success:
        np.testing.assert_allclose(result.x, best.x, atol=1e-6)
    else:
        assert 'hessian="exact"' in result.message
    assert result.rank == 12
