"""Loss, gradient and Hessian out of the sums of one read, and how such sums add.

The formulas of `SquaredLoss` are held against automatic derivatives of the objective as
`problems` states it, and against differences of its own values.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial, reduce
from itertools import pairwise
from operator import add

import autograd
import numpy as np
import pytest
import scipy.sparse
from helpers.problems import UNITS, Problem, alpha, fitted, sparse, synthetic

from dresoftmax.blocks.make import make_block
from dresoftmax.model.evaluation import TrialPoint
from dresoftmax.model.layout import LARGEST_Z
from dresoftmax.model.losses import SquaredLoss
from dresoftmax.model.row_sums import RowSums
from dresoftmax.model.units import UNITS as BY_NAME
from dresoftmax.reductions import evaluate as reads
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query, Sketch

FIELDS = ("vectors", "gram", "squares")

CASES = {
    f"{form}, {unit}, w {w}, ridge {ridge}": (form, unit, w, ridge)
    for form in ("dense", "csr")
    for unit in UNITS
    for w, ridge in ((None, False), ("scalar", False), ("vector", False), ("vector", True))
}


def problem_of(form="dense", unit="exp+linear", w=None, ridge=False, noise="strong"):
    problem = synthetic(n=70, d=4, cond=5.0, unit=unit, w=w, ridge=ridge, noise=noise)
    if form == "csr":
        A = scipy.sparse.csr_array(np.where(np.abs(problem.A) > 0.5, problem.A, 0.0))
        problem = problem.with_data(A=A)
    return problem


def points_of(problem):
    """Return four points: the origin, a fit, and two further off."""
    directions = np.random.default_rng(5).standard_normal((2, len(problem.x_true)))
    return [0.0 * problem.x_true, problem.x_true, *(0.3 * directions)]


def truth(problem, x):
    """Return log α and κ = ⟨f, f − b⟩, stated without the package."""
    f = fitted(problem.dense, x, problem.unit)
    return np.log(alpha(problem.dense, x, problem.unit)), f @ (f - problem.b)


def cut(problem, *ends):
    """Return the rows as blocks that end before the rows `ends`, and at the last."""
    w = problem.w
    return [
        make_block(i, problem.A[low:high], problem.b[low:high], w[low:high] if np.ndim(w) else w)
        for i, (low, high) in enumerate(pairwise((0, *ends, len(problem.b))))
    ]


def read(problem, points, references, blocks=None, threads=1, **options):
    log_alpha, kappa = np.array(references, dtype=float).T
    unit = BY_NAME[problem.unit]
    query = Query(np.array(points), log_alpha, kappa, unit, Sketch("exact"), **options)
    return evaluate_blocks([query], cut(problem) if blocks is None else blocks, threads).each[0]


def evaluations_of(problem, points, references=None, blocks=None):
    """Return the models at `points`, all of one read."""
    references = references or [truth(problem, x) for x in points]
    sums = read(problem, points, references, blocks)
    with np.errstate(all="ignore"):
        return [
            SquaredLoss().evaluate(sums, k, TrialPoint(x, *references[k]), problem.ridge)
            for k, x in enumerate(points)
        ]


def assert_close(value, expected, rtol):
    """Compare in the norm, since entries may cancel."""
    assert np.linalg.norm(value - expected) <= rtol * np.linalg.norm(expected)


# --- loss, gradient, Hessian -----------------------------------------------------


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_model_is_the_objective_and_its_derivatives(case):
    problem = problem_of(*case)
    points = points_of(problem)
    for x, model in zip(points, evaluations_of(problem, points), strict=True):
        log_alpha, kappa = truth(problem, x)
        np.testing.assert_allclose(model.loss, problem.loss(x), rtol=1e-12)
        np.testing.assert_allclose(model.log_alpha, log_alpha, rtol=1e-13)
        np.testing.assert_allclose(model.alpha, np.exp(log_alpha), rtol=1e-12)
        np.testing.assert_allclose(model.kappa, kappa, rtol=1e-10, atol=1e-14)
        assert_close(model.gradient, problem.gradient(x), 1e-10)
        assert_close(model.hessian, problem.hessian(x), 1e-11)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_model_agrees_with_differences_of_itself(case):
    problem, h = problem_of(*case), 1e-4
    x = points_of(problem)[-1]
    shifts = h * np.eye(len(x))
    model, *others = evaluations_of(problem, [x, *(x + shifts), *(x - shifts)])
    pairs = list(zip(others[: len(x)], others[len(x) :], strict=True))
    derivatives = {
        "loss": model.gradient,
        "gradient": model.hessian,
        "log_alpha": model.p,
        "kappa": model.dkappa,
    }
    for name, derivative in derivatives.items():
        differences = [getattr(ahead, name) - getattr(behind, name) for ahead, behind in pairs]
        assert_close(derivative, np.array(differences) / (2 * h), 1e-6)


@pytest.mark.parametrize("shift", [-30.0, -2.0, -0.7, 0.7, 2.0, 5.0])
@pytest.mark.parametrize("unit", UNITS)
def test_references_that_are_off_change_neither_loss_nor_gradient(unit, shift):
    """Only rounding errors grow, where α₀ is too large: by the square of the factor."""
    problem = problem_of("dense", unit, "vector", True)
    points = points_of(problem)
    exact = [truth(problem, x) for x in points]
    models = evaluations_of(
        problem, points, [(log_alpha + shift, k + 3.0) for log_alpha, k in exact]
    )
    rounding = 1e-13 * max(1.0, np.exp(2 * shift))
    for x, (log_alpha, kappa), model in zip(points, exact, models, strict=True):
        size = np.linalg.norm(autograd.jacobian(problem.residuals)(x)) * np.linalg.norm(problem.b)
        np.testing.assert_allclose(model.loss, problem.loss(x), rtol=rounding)
        np.testing.assert_allclose(model.gradient, problem.gradient(x), atol=rounding * size)
        np.testing.assert_allclose(model.total, np.exp(-shift), rtol=1e-10)
        np.testing.assert_allclose(model.log_alpha, log_alpha, rtol=1e-10)
        np.testing.assert_allclose(model.kappa, kappa, atol=10 * rounding * problem.b.max())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_predicted_references_leave_errors_of_second_order(case):
    """Half the step, a quarter of the error: in α₀, in κ₀ and in the Hessian."""
    problem = problem_of(*case)
    x = 0.8 * problem.x_true
    (model,) = evaluations_of(problem, [x])
    step = 0.02 * np.random.default_rng(8).standard_normal(len(x))
    steps = [step / 2**i for i in range(4)]
    points = [x + step for step in steps]
    references = [model.predict(step) for step in steps]
    trials = evaluations_of(problem, points, references)
    exact = [truth(problem, point) for point in points]
    off = [t.hessian - problem.hessian(x) for t, x in zip(trials, points, strict=True)]
    errors = np.column_stack(
        [np.abs(np.subtract(references, exact)), np.linalg.norm(off, axis=(1, 2))]
    )
    ratios = errors[:-1] / errors[1:]
    assert ((ratios > 3.4) & (ratios < 4.6)).all(), ratios


@pytest.mark.parametrize("distance", [1e-8, 1e-9, 1e-10])
@pytest.mark.parametrize("unit", UNITS)
def test_nothing_cancels_near_an_optimum_without_residual(unit, distance):
    """A loss far below 1e-16‖b‖² is as correct as any other; so is its gradient."""
    problem = problem_of("dense", unit, noise="none")
    x = problem.x_true
    step = distance * np.random.default_rng(3).standard_normal(len(x))
    (there,) = evaluations_of(problem, [x])
    (model,) = evaluations_of(problem, [x + step], [there.predict(step)])
    J = autograd.jacobian(problem.residuals)(x)
    loss = 0.5 * np.sum((J @ step) ** 2)
    assert loss < 100 * distance**2 * (problem.b @ problem.b)
    np.testing.assert_allclose(model.loss, loss, rtol=1e-4)
    assert_close(model.gradient, J.T @ J @ step, 1e-4)


# --- outside the domain ----------------------------------------------------------


def uncentred():
    """Return a column of ones: α < 0 at x = −1, and exp(Ax) overflows at x = 1000."""
    return Problem(np.ones((50, 1)), np.full(50, 0.02))


OUTSIDE = {
    "alpha < 0": ([-1.0], (np.log(50), 0.0)),
    "overflow": ([1000.0], (np.log(50), 0.0)),
    "alpha overflows after all": ([400.0], (-500.0, 0.0)),
    "underflow": ([0.1], (2000.0, 0.0)),
    "reference of no use": ([0.1], (-2000.0, 0.0)),
    "infinite point": ([np.inf], (np.log(50), 0.0)),
}


@pytest.mark.parametrize(("x", "reference"), OUTSIDE.values(), ids=OUTSIDE)
def test_a_point_outside_the_domain_is_none_and_leaves_the_others_alone(x, reference):
    problem = uncentred()
    inside = [np.zeros(1), np.full(1, 0.3)]
    points = [inside[0], np.array(x), inside[1]]
    good = [truth(problem, x) for x in inside]
    first, none, last = evaluations_of(problem, points, [good[0], reference, good[1]])
    assert none is None
    for model, x in ((first, inside[0]), (last, inside[1])):
        np.testing.assert_allclose(model.loss, problem.loss(x), rtol=1e-9, atol=1e-15)


def test_a_great_alpha_is_no_overflow():
    """With references that fit, only α itself exceeds the largest float."""
    problem = uncentred()
    log_alpha = 1000.0 + np.log(50)
    (model,) = evaluations_of(problem, [np.array([1000.0])], [(log_alpha, 0.0)])
    np.testing.assert_allclose(model.log_alpha, log_alpha, rtol=1e-14)
    assert model.alpha == np.inf
    assert model.loss <= 1e-30  # f = b = 1/50 in every row


def test_a_point_with_the_same_rows_needs_no_read():
    """Two points whose difference A does not see; only the ridge does."""
    problem = problem_of("dense", ridge=True)
    problem = problem.with_data(A=np.column_stack([problem.A, problem.A[:, 0]]))
    x = np.array([0.3, -0.2, 0.1, 0.5, 0.7])
    y = np.array([0.7, -0.2, 0.1, 0.5, 0.3])
    moved = evaluations_of(problem, [x])[0].moved(y, problem.ridge)
    np.testing.assert_array_equal(moved.x, y)
    np.testing.assert_allclose(moved.loss, problem.loss(y), rtol=1e-12)
    assert_close(moved.gradient, problem.gradient(y), 1e-11)


# --- how sums add ----------------------------------------------------------------


def assert_same_sums(sums, other):
    pairs = [(getattr(sums, name), getattr(other, name)) for name in FIELDS]
    for value, expected in [*pairs, *zip(sums.scalars.T, other.scalars.T, strict=True)]:
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13 * np.abs(expected).max())


def assert_same(sums, other):
    assert_same_sums(sums, other)
    for name in ("rows", "sketched", "bad"):
        assert getattr(sums, name) == getattr(other, name), name


@pytest.mark.parametrize("ends", [(35,), (1, 2, 40, 64), (0, 0, 20, 20, 70), ()], ids=str)
@pytest.mark.parametrize("threads", [1, 2, 7, 100])
@pytest.mark.parametrize("form", ["dense", "csr"])
def test_sums_do_not_depend_on_the_division_of_the_rows(monkeypatch, form, threads, ends):
    monkeypatch.setattr(reads, "NUMBERS_PER_THREAD", 1)  # threads also on few rows
    problem = problem_of(form, w="vector")
    points = points_of(problem)
    references = [truth(problem, x) for x in points]
    read_all = partial(read, problem, points, references, column_gram=True)
    whole = read_all()
    assert whole.rows == whole.sketched == 70

    blocks = cut(problem, *ends)
    assert_same(read_all(blocks, threads), whole)
    order = np.random.default_rng(len(ends)).permutation(len(blocks))
    assert_same(read_all([blocks[i] for i in order], threads), whole)
    parts = [read_all([blocks[i]]) for i in order]
    assert_same(reduce(add, parts), whole)
    assert_same(sum(parts, start=RowSums.zeros(np.array(points), 0)), whole)
    assert_same(whole + RowSums.zeros(np.array(points), 5), whole)


MERGED = {
    "both": ((1, 9), (2, 3), (1, 9)),
    "same block": ((4, 9), (4, 3), (4, 3)),
    "first only": ((0, 0), None, (0, 0)),
    "second only": (None, (3, 0), (3, 0)),
    "neither": (None, None, None),
}


@pytest.mark.parametrize(("one", "other", "merged"), MERGED.values(), ids=MERGED)
def test_the_first_bad_row_and_the_largest_z_survive(one, other, merged):
    parts = [RowSums.zeros(np.zeros((2, 3)), 0) for _ in range(2)]
    for part, bad, largest in zip(parts, (one, other), ([-5.0, 2.0], [-3.0, 1.0]), strict=True):
        part.rows, part.bad, part.scalars[:, LARGEST_Z] = 1, bad, largest
    for total in (add(*parts), add(*reversed(parts))):
        assert total.bad == merged
        np.testing.assert_array_equal(total.largest_z, [-3.0, 2.0])


@pytest.mark.parametrize("form", ["dense", "csr"])
def test_a_row_of_weight_k_is_a_row_k_times(form):
    problem = sparse(n=90, d=4, density=0.6) if form == "csr" else problem_of(w="vector")
    n, times = len(problem.b), np.random.default_rng(2).integers(0, 4, len(problem.b))
    x = 0.5 * problem.x_true
    (block,) = cut(problem)
    weighted = replace(block, weight=times.astype(float))
    again = block.take(np.repeat(np.arange(n), times), np.ones(1))
    reference = truth(problem, x)
    sums, expected = (
        read(problem, [x], [reference], [rows], column_gram=True) for rows in (weighted, again)
    )
    assert (sums.rows, expected.rows) == (n, times.sum())
    expected.scalars[:, LARGEST_Z] = sums.scalars[
        :, LARGEST_Z
    ]  # a row of weight zero may hold the largest z
    assert_same_sums(sums, expected)
