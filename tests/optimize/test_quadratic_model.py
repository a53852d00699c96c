"""The algebra of a step: whitened coordinates, the trust-region minimiser, leverage roots.

A minimiser within a radius is known by its optimality conditions, so that no other
solver is needed to check it.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.problems import spectrum_matrix
from hypothesis import given, settings
from hypothesis import strategies as st

from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.whitening import Whitening


def orthogonal(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def quadratic(g, H, whitening=None):
    """Return a model; gradients of the size of rounding errors count as zero."""
    g = np.asarray(g, dtype=float)
    whitening = whitening or Whitening.from_gram(np.eye(len(g)))
    return QuadraticModel(g, np.asarray(H, dtype=float), whitening, 1e-13 * np.linalg.norm(g))


def assert_optimal(g, H, y, radius):
    """Check (H + μ)y = −g, H + μ ⪰ 0, μ ≥ 0, ‖y‖ ≤ ρ and μ(ρ − ‖y‖) = 0."""
    eigenvalues = np.linalg.eigvalsh(H)
    norm, curvature = np.linalg.norm(y), np.max(np.abs(eigenvalues))
    mu = -(y @ (H @ y + g)) / (y @ y) if norm > 0.0 else 0.0
    scale = curvature + np.linalg.norm(g) / radius
    assert norm <= radius * (1 + 1e-9)
    assert np.linalg.norm(H @ y + mu * y + g) <= 1e-8 * scale * radius
    assert eigenvalues[0] + mu >= -1e-8 * scale
    assert mu >= -1e-8 * scale
    assert mu * (radius - norm) <= 1e-8 * scale * radius


# --- the trust-region step -------------------------------------------------------

EIGENVALUES = [-100.0, -1.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 5.0, 1e4]
POWERS = st.integers(-8, 8).map(lambda power: 10.0**power)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    spectrum=st.lists(
        st.tuples(st.sampled_from(EIGENVALUES), st.sampled_from([0.0, 1e-9, 1e-5, 1.0, -3.0])),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(0, 2**32 - 1),
    size=POWERS,
    slope=POWERS,
    radius=POWERS,
)
def test_a_step_is_the_minimiser_within_its_radius(spectrum, seed, size, slope, radius):
    """Definite, indefinite, singular; steep and flat; (almost) the hard case."""
    eigenvalues, parts = np.array(spectrum).T
    Q = orthogonal(len(parts), seed)
    H = (Q * (size * eigenvalues)) @ Q.T
    g = slope * (Q @ parts)
    model = quadratic(g, 0.5 * (H + H.T))
    y = model.step(radius)
    assert_optimal(g, 0.5 * (H + H.T), y, radius)
    assert model.reduction(y) >= -1e-12 * (slope + size * radius) * radius


HARD = {
    "one column": ([0.0], [-1.0], 2.0),
    "one column, a slope of rounding size": ([1e-15], [-1.0], 100.0),
    "no slope": ([0.0, 0.0], [-1.0, 3.0], 0.5),
    "no slope along the lowest": ([0.0, 1.0], [-1.0, 3.0], 2.0),
    "almost none": ([1e-14, 1.0], [-1.0, 3.0], 2.0),
    "almost none, and a short radius": ([1e-14, 1.0], [-1.0, 3.0], 1e-3),
    "a lowest pair": ([0.0, 0.0, 1.0], [-2.0, -2.0, 1.0], 5.0),
    "an almost equal pair": ([1e-9, 1.0, 1.0], [-2.0, -2.0 + 1e-9, 1.0], 5.0),
    "a flat direction": ([0.0, 1.0, 1.0], [-2.0, 0.0, 1.0], 5.0),
    "within the radius in H + μ": ([0.0, 1e-8], [-1.0, 1.0], 1.0),
}


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize(("g", "eigenvalues", "radius"), HARD.values(), ids=HARD)
def test_the_hard_case(g, eigenvalues, radius, rotated):
    Q = orthogonal(len(g)) if rotated else np.eye(len(g))
    g, H = Q @ g, (Q * eigenvalues) @ Q.T
    y = quadratic(g, H).step(radius)
    assert_optimal(g, H, y, radius)
    np.testing.assert_allclose(np.linalg.norm(y), radius, rtol=1e-9)


@pytest.mark.parametrize("radius", [1e-12, 1e-3, 1.0, 1e3, 1e12])
def test_extreme_radii(radius):
    """Far within the Newton step it is steepest descent; beyond it, the Newton step."""
    H, g = np.diag([1.0, 4.0, 0.5]), np.array([1.0, -2.0, 3.0])
    newton = -np.linalg.solve(H, g)
    model = quadratic(g, H)
    y = model.step(radius)
    assert_optimal(g, H, y, radius)
    if radius >= 1e3:
        np.testing.assert_allclose(y, newton, rtol=1e-12)
    if radius <= 1e-3:
        np.testing.assert_allclose(y, -radius * g / np.linalg.norm(g), rtol=0.01)
    np.testing.assert_allclose(model.reduction(y), -(g @ y + y @ H @ y / 2), rtol=1e-12)


# --- Newton step and decrement ---------------------------------------------------


@pytest.mark.parametrize("cond", [1.0, 1e3, 1e6])
def test_decrement_and_newton_step(cond):
    """In whatever coordinates: the decrement does not know of the whitening."""
    d = 6
    Q, rng = orthogonal(d), np.random.default_rng(1)
    H = (Q * np.geomspace(1, cond, d)) @ Q.T
    g = rng.standard_normal(d)
    expected = np.linalg.solve(H, g)
    for A in (np.eye(d), spectrum_matrix(50, d, 30.0, rng)):
        whitening = Whitening.from_gram(A.T @ A)
        model = quadratic(g, H, whitening)
        np.testing.assert_allclose(model.decrement, np.sqrt(g @ expected), rtol=1e-9)
        np.testing.assert_allclose(whitening.basis @ model.newton, -expected, rtol=1e-6)


def test_negative_curvature_has_neither():
    model = quadratic([1.0, 1.0], np.diag([2.0, -1e-3]))
    assert model.newton is None
    assert model.decrement == np.inf


def test_a_flat_direction_is_left_alone_unless_the_slope_leads_there():
    H = np.diag([2.0, 0.0])
    model = quadratic([4.0, 0.0], H)
    np.testing.assert_allclose(model.newton, [-2.0, 0.0])
    np.testing.assert_allclose(model.decrement, np.sqrt(8.0))
    falling = quadratic([4.0, 1e-3], H)
    assert falling.newton is None
    assert_optimal(falling.g, H, falling.step(10.0), 10.0)


# --- the whitening ------------------------------------------------------------------


def rows(d, repeated=(), zero=(), cond=30.0):
    """Return A of which some columns are copies of the first, some are zero."""
    A = spectrum_matrix(80, d, cond, np.random.default_rng(d))
    A[:, list(repeated)] = 2.0 * A[:, :1]
    A[:, list(zero)] = 0.0
    return A


RANKS = {
    "full": (rows(5), 5),
    "one column": (rows(1), 1),
    "zero columns": (rows(5, zero=[0, 3]), 3),
    "equal columns": (rows(5, repeated=[2, 4]), 3),
    "both": (rows(6, repeated=[1], zero=[2, 5]), 3),
    "nothing": (rows(4, zero=range(4)), 0),
    "ill-conditioned": (rows(5, cond=1e5), 5),
}


@pytest.mark.parametrize(("A", "rank"), RANKS.values(), ids=RANKS)
def test_the_basis_whitens_the_row_space(A, rank):
    M = A.T @ A / len(A)
    whitening = Whitening.from_gram(M)
    assert whitening.rank == rank == np.linalg.matrix_rank(A)
    assert whitening.basis.shape == (A.shape[1], rank)
    z = A @ whitening.basis
    np.testing.assert_allclose(z.T @ z / len(A), np.eye(rank), atol=1e-5)
    if np.linalg.cond(M) < 1e6 or rank < A.shape[1]:
        np.testing.assert_allclose(
            whitening.basis.T @ M @ whitening.basis, np.eye(rank), atol=1e-11
        )
    # the columns of the basis are combinations of rows of A
    in_row_space = np.linalg.pinv(A, rcond=1e-10) @ A @ whitening.basis
    np.testing.assert_allclose(in_row_space, whitening.basis, atol=1e-9)
    np.testing.assert_allclose(whitening.row_norm, np.sqrt(np.mean(np.sum(A**2, axis=1))))


@pytest.mark.parametrize(("A", "rank"), RANKS.values(), ids=RANKS)
def test_projection_is_the_least_point_with_the_same_Ax(A, rank):
    x = np.random.default_rng(0).standard_normal(A.shape[1])
    least = Whitening.from_gram(A.T @ A / len(A)).project(x)
    np.testing.assert_allclose(least, np.linalg.pinv(A, rcond=1e-10) @ (A @ x), atol=1e-9)


@pytest.mark.parametrize("scale", [[1e6, 1.0, 1e-6, 1.0, 3.0], [1e-9] * 5, [1, 1e4, 1, 1e-4, 1]])
@pytest.mark.parametrize("case", ["full", "equal columns", "both"])
def test_the_units_of_the_columns_do_not_matter(case, scale):
    """The rank stays, and the steps follow: x in new units has the same Ax."""
    A, rank = RANKS[case]
    scale = np.resize(scale, A.shape[1])
    plain, scaled = (Whitening.from_gram(X.T @ X / len(X)) for X in (A, A * scale))
    assert scaled.rank == plain.rank == rank
    g, H = A.T @ np.linspace(-1, 1, len(A)), (A.T * np.linspace(-1, 2, len(A))) @ A
    steps = [
        X @ whitening.basis @ quadratic(G, K, whitening).step(0.7)
        for X, G, K, whitening in (
            (A, g, H, plain),
            (A * scale, g * scale, H * np.outer(scale, scale), scaled),
        )
    ]
    np.testing.assert_allclose(steps[1], steps[0], atol=1e-7)


# --- leverage roots --------------------------------------------------------------


def definite(A):
    return (A.T * np.linspace(0.5, 2.0, len(A))) @ A / len(A) ** 2


@pytest.mark.parametrize("case", ["full", "one column", "ill-conditioned"])
def test_the_root_gives_the_inverse_of_a_definite_hessian(case):
    A, _ = RANKS[case]
    R = quadratic(A[0], definite(A), Whitening.from_gram(A.T @ A / len(A))).inverse_root()
    found = A @ R  # whose squared row norms are leverage scores
    expected = A @ np.linalg.solve(definite(A), A.T)
    np.testing.assert_allclose(found @ found.T, expected, atol=1e-5 * np.abs(expected).max())


def test_the_root_of_an_indefinite_hessian_takes_curvature_by_its_size():
    eigenvalues = np.array([-2.0, 0.5, 8.0])
    Q = orthogonal(3)
    R = quadratic(np.ones(3), (Q * eigenvalues) @ Q.T).inverse_root()
    np.testing.assert_allclose(R @ R.T, (Q / np.abs(eigenvalues)) @ Q.T, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_errors_do_not_turn_the_root(seed):
    """A sketch that follows from it would else depend on the number of workers."""
    A, _ = RANKS["full"]
    M, H = A.T @ A / len(A), definite(A)

    def root(M, H):
        return quadratic(A[0], H, Whitening.from_gram(M)).inverse_root()

    def nearly(S):
        noise = np.random.default_rng(seed).uniform(-1e-15, 1e-15, S.shape)
        return S * (1.0 + noise + noise.T)

    expected = root(M, H)
    np.testing.assert_allclose(root(nearly(M), nearly(H)), expected, atol=1e-10 * expected.max())
