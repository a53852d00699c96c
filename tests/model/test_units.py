"""Other units, a user's own, and the rescaled loss: derivatives, optima, and where they run."""

from __future__ import annotations

import math
from functools import partial

import autograd
import autograd.numpy as anp
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from helpers.problems import FORMULAS, synthetic, target

import dresoftmax
from dresoftmax.model.evaluation import TrialPoint
from dresoftmax.model.losses import RescaledLoss
from dresoftmax.model.units import UNITS
from dresoftmax.problem import open_problem

# Written without overflow, as a user would.
SOFTPLUS = dresoftmax.Unit(
    "softplus",
    u=lambda z: max(z, 0.0) + math.log1p(math.exp(-abs(z))),
    du=lambda z: 1.0 / (1.0 + math.exp(-z)),
    d2u=lambda z: 0.25 / math.cosh(0.5 * z) ** 2,
)
NEW = {"cosh": "cosh", "sinh": "sinh", "softplus": SOFTPLUS}
ALL = {**UNITS, "softplus": SOFTPLUS}
A = np.random.default_rng(3).normal(0.2, 1.0, (90, 3))
# α is positive at all of them, for every unit.
POINTS = [scale * np.array([0.5, 0.2, 0.4]) for scale in (0.1, 1.0, 2.0)]
B = np.random.default_rng(4).dirichlet(np.full(90, 5.0))


def rescaled_loss(A, b, x, unit, w=0.0, ridge=0.0):
    z = anp.dot(A, x)
    u = FORMULAS[unit](z)
    c = u - anp.sum(u) * b
    return 0.5 * anp.sum(c**2) + 0.5 * anp.sum((w * z) ** 2) + 0.5 * ridge * anp.sum(x**2)


@pytest.mark.parametrize("unit", NEW)
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_derivatives(unit, form):
    problem = synthetic().with_data(A=A, b=B, unit=unit, w=0.02, ridge=1e-3)
    with open_problem(form(A), B, unit=NEW[unit], w=0.02, ridge=1e-3) as opened:
        models = opened.evaluate_all(POINTS)
    for x, model in zip(POINTS, models, strict=True):
        np.testing.assert_allclose(model.loss, problem.loss(x), rtol=1e-12)
        np.testing.assert_allclose(model.gradient, problem.gradient(x), rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(model.hessian, problem.hessian(x), rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("unit", ALL)
@pytest.mark.parametrize("off", [0.0, 0.3])
def test_derivatives_of_the_rescaled_loss(unit, off):
    """Loss and gradient are exact for any reference, the Hessian with those of the point."""
    log_unit = 2.0
    loss = RescaledLoss().in_units_of(log_unit)
    with open_problem(A, B, w=0.3, ridge=0.2, unit=NEW.get(unit, unit), loss=loss) as opened:
        objective = opened.objective()
        for x in POINTS:
            stated = partial(rescaled_loss, A, B, unit=unit, w=0.3, ridge=0.2)
            u = FORMULAS[unit](A @ x)
            kappa = float((u / u.sum() - B) @ B)
            point = TrialPoint(x, math.log(u.sum()) + off, kappa + off)
            model = objective.evaluate([point]).evaluations[0]
            np.testing.assert_allclose(model.full_loss, stated(x), rtol=1e-12)
            unit_of_loss = math.exp(-2.0 * log_unit)
            np.testing.assert_allclose(model.loss, stated(x) * unit_of_loss, rtol=1e-12)
            expected = autograd.grad(stated)(x) * unit_of_loss
            np.testing.assert_allclose(model.gradient, expected, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(model.kappa, kappa, rtol=1e-10)
            if not off:
                expected = autograd.hessian(stated)(x) * unit_of_loss
                np.testing.assert_allclose(model.hessian, expected, rtol=1e-9, atol=1e-11)
            numeric = [
                (kappa_at(x + step, unit) - kappa_at(x - step, unit)) / 2e-6
                for step in 1e-6 * np.eye(3)
            ]
            np.testing.assert_allclose(model.dkappa, numeric, rtol=1e-5, atol=1e-9)


def kappa_at(x, unit):
    u = FORMULAS[unit](A @ x)
    return float((u / u.sum() - B) @ B)


# --- solves ----------------------------------------------------------------------


def assert_optimum(loss, result, scale=1.0):
    """Certify it by automatic derivatives: no gradient, and a positive definite Hessian."""
    g, H = autograd.grad(loss)(result.x), autograd.hessian(loss)(result.x)
    assert np.linalg.eigvalsh(H)[0] > 0
    assert math.sqrt(g @ np.linalg.solve(H, g)) <= 1e-8 * scale
    np.testing.assert_allclose(result.fun, loss(result.x), rtol=1e-9, atol=1e-18 * scale**2)
    np.testing.assert_allclose(result.history[-1].loss, result.fun, rtol=1e-9)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("noise", ["none", "mild"])
@pytest.mark.parametrize("unit", NEW)
def test_reaches_an_optimum(unit, noise, sampled, request):
    if sampled:
        request.getfixturevalue("samples")
    base = synthetic(n=3000)
    rows = base.A + 0.3  # else sinh would sum to nearly nothing
    b = target(rows, base.x_true, unit, noise, np.random.default_rng(1))
    result = dresoftmax.solve(rows, b, unit=NEW[unit], tol=1e-11, seed=0)
    assert result.success, result.message
    assert_optimum(base.with_data(A=rows, b=b, unit=unit)._loss_of_x(), result)
    # cosh and sinh give the same shares for x and −x.
    off = min(np.linalg.norm(result.x - sign * base.x_true) for sign in (1, -1))
    assert off <= (1e-8 if noise == "none" else 0.1) * np.linalg.norm(base.x_true)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("unit", ["exp+linear", "exp", "cosh", "softplus"])
def test_reaches_an_optimum_of_the_rescaled_loss(unit, sampled, request):
    if sampled:
        request.getfixturevalue("samples")
    problem = synthetic(n=3000, unit=unit, noise="mild")
    w, ridge = 1e-3, 0.1
    result = dresoftmax.solve(
        problem.A, problem.b, unit=SOFTPLUS if unit == "softplus" else unit, rescaled=True,
        w=w, ridge=ridge, tol=1e-11, seed=0,
    )  # fmt: skip
    assert result.success, result.message
    loss = partial(rescaled_loss, problem.A, problem.b, unit=unit, w=w, ridge=ridge)
    assert_optimum(loss, result, scale=result.alpha)


@pytest.mark.parametrize("seed", [1, 4])
def test_a_sample_that_can_be_fitted_from_far_away(seed):
    """A few rows let exp run off to where the others are of another order."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((30_000, 32)) * np.geomspace(1.0, 0.01, 32)
    x_true = rng.standard_normal(32) / np.geomspace(1.0, 0.01, 32)
    x_true /= np.std(rows @ x_true)
    rows += x_true / (x_true @ x_true)  # z = 1 in the mean
    b = np.exp(rows @ x_true)
    b /= b.sum()
    result = dresoftmax.solve(rows, b, unit="exp", rescaled=True, seed=seed)
    assert result.success, result.message

    def slope(x):
        u = np.exp(rows @ x)
        c = u - u.sum() * b
        return np.linalg.norm(rows.T @ (u * (c - b @ c)))

    assert slope(result.x) <= 1e-6 * slope(np.zeros(32))


def test_targets_have_the_rescaled_loss_of_each():
    problem = synthetic(n=3000)
    targets = np.stack([problem.b, np.roll(problem.b, 7)], axis=1)
    joint = dresoftmax.solve(problem.A, targets, rescaled=True, seed=0)
    for t, result in enumerate(joint):
        alone = dresoftmax.solve(problem.A, targets[:, t], rescaled=True, seed=0)
        np.testing.assert_allclose(result.x, alone.x, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(result.fun, alone.fun, rtol=1e-9)


@pytest.mark.parametrize("size", [1e100, 1e-100])
def test_the_rescaled_loss_in_other_units(size):
    """Its size, the square of the unit's, is no matter for the iteration."""
    problem = synthetic(n=3000, unit="exp")
    unit = dresoftmax.Unit("sized", *[lambda z: size * math.exp(z)] * 3)
    plain, sized = (
        dresoftmax.solve(problem.A, problem.b, unit=unit, rescaled=True, seed=0)
        for unit in ("exp", unit)
    )
    assert sized.success, sized.message
    np.testing.assert_allclose(sized.x, plain.x, rtol=1e-9)
    np.testing.assert_allclose([sized.fun / size**2, sized.alpha / size], [plain.fun, plain.alpha])
    assert abs(sized.data_passes - plain.data_passes) <= 1.0  # at the edge of the tolerance


def test_a_unit_without_a_start_at_zero():
    """Σ sinh(0) = 0: a start is found, or asked for."""
    problem = synthetic(n=60, d=2, unit="sinh", noise="none")
    result = dresoftmax.solve(problem.A, problem.b, unit="sinh", x0=problem.x_true * 1.05)
    assert result.success, result.message
    mirrored = np.concatenate([A, -A])  # where sinh sums to zero for every x
    with pytest.raises(ValueError, match="alpha, the sum of u"):
        dresoftmax.solve(mirrored, np.full(180, 1 / 180), unit="sinh")
    with pytest.raises(ValueError, match=r"x0 is outside the domain.*start from another point"):
        dresoftmax.solve(A, B, unit="sinh", x0=-POINTS[1])


# --- a user's own ----------------------------------------------------------------


def test_an_own_unit_of_a_built_in_one_is_the_same():
    own = dresoftmax.Unit(
        "mine", u=lambda z: math.exp(z) + z, du=lambda z: math.exp(z) + 1.0, d2u=math.exp
    )
    problem = synthetic(n=3000)
    results = [
        dresoftmax.solve(problem.A, problem.b, unit=unit, seed=0) for unit in ("exp+linear", own)
    ]
    np.testing.assert_allclose(results[0].x, results[1].x, rtol=1e-12)
    assert results[0].data_passes == results[1].data_passes


@pytest.mark.parametrize("persist", [True, False])
def test_an_own_unit_on_workers(client, persist, tmp_path):
    problem = synthetic(n=3000, unit="softplus")
    here = dresoftmax.solve(problem.A, problem.b, unit=SOFTPLUS, seed=0)
    if not persist:
        np.save(tmp_path / "A.npy", problem.A)
    A = da.from_array(problem.A if persist else np.load(tmp_path / "A.npy", mmap_mode="r"), 800)
    there = dresoftmax.solve(
        A.rechunk((800, -1)), problem.b, unit=SOFTPLUS, seed=0, client=client, persist=persist
    )
    assert there.success, there.message
    np.testing.assert_allclose(there.x, here.x, rtol=1e-8)


def test_a_solve_with_an_own_unit_is_resumed(tmp_path):
    problem = synthetic(n=3000, unit="softplus", noise="strong")
    options = {"unit": SOFTPLUS, "rescaled": True, "seed": 0}
    whole = dresoftmax.solve(problem.A, problem.b, **options)
    path = tmp_path / "solve.npz"
    dresoftmax.solve(problem.A, problem.b, **options, max_iter=1, checkpoint=path)
    resumed = dresoftmax.solve(problem.A, problem.b, **options, resume=path)
    np.testing.assert_array_equal(resumed.x, whole.x)
    for other, words in (
        ({"unit": "exp"}, "unit='softplus', but unit is 'exp'"),
        ({"rescaled": False}, "loss='rescaled', but loss is 'squared'"),
    ):
        with pytest.raises(ValueError, match=words):
            dresoftmax.solve(problem.A, problem.b, **options | other, resume=path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"unit": "tanh"}, ValueError, "unit is 'tanh'; choose one of .*'cosh', 'sinh'"),
        ({"rescaled": 1}, TypeError, "rescaled is 1; pass True or False"),
        (
            {"unit": dresoftmax.Unit("twice", math.exp, lambda z: 2.0 * math.exp(z), math.exp)},
            ValueError,
            r"unit 'twice' has du\(-1.37\) = 0.508.*slope of u there is 0.254",
        ),
        (
            {"unit": dresoftmax.Unit("bent", math.exp, math.exp, math.cos)},
            ValueError,
            r"unit 'bent' has d2u\(.*pass the derivative of du as d2u",
        ),
        (
            {"unit": dresoftmax.Unit("text", lambda z: z.missing, math.exp, math.exp)},
            TypeError,
            "unit 'text' cannot be compiled by Numba",
        ),
    ],
)
def test_wrong_units_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        dresoftmax.solve(A, B, **options)
