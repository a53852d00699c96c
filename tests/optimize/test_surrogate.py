"""The sample as a guide: tilted to all rows, it says what a step leaves.

Objectives over all rows and over a sample of them are built as the solver builds
them; what the guide makes of them is compared with what all rows say.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from helpers.problems import reference_solution, synthetic

import dresoftmax
from dresoftmax.blocks.base import make_block
from dresoftmax.engines.threads import ThreadsEngine
from dresoftmax.model.units import UNITS
from dresoftmax.optimize.hessian_reuse import HessianReuse
from dresoftmax.optimize.history import FitHistory, Observers
from dresoftmax.optimize.initialization import _starts
from dresoftmax.optimize.objective import Objective, TrialPoint
from dresoftmax.optimize.proposals import Iterate
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.surrogate import Surrogate, SurrogateProposer
from dresoftmax.optimize.termination import Termination
from dresoftmax.optimize.trust_region import TrustRegion
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.row_sample import SamplePlan, draw_sample

N, D, M = 6000, 6, 1500


def objectives(seed=0, unit="exp+linear", penalties=True):
    """Return the problem, its objective over all rows, and that over a sample."""
    w = "vector" if penalties else None
    problem = synthetic(n=N, d=D, cond=30.0, noise="mild", unit=unit, w=w, ridge=penalties)
    whole = ThreadsEngine([make_block(0, problem.A, problem.b, problem.w)])
    b = problem.b
    plan = SamplePlan(M, N, np.array([np.abs(b).sum()]), np.array([np.linalg.norm(b)]), seed)
    sample = whole.reduce(partial(draw_sample, plan))
    make = partial(
        Objective, weight=float(N), d=D, unit=UNITS[unit], ridge=problem.ridge,
        hessian="exact", sketch_size=0.0, seed=seed,
    )  # fmt: skip
    return problem, make(reader(whole)), make(reader(ThreadsEngine([sample.cut(M)])))


def reader(engine):
    return lambda query: engine.reduce(partial(evaluate_blocks, [query])).each[0]


def model_at(objective, x):
    """Return the model at x with its references exact."""
    start = TrialPoint(x, math.log(N), 0.0)
    for _ in range(3):
        model = objective.evaluate([start], None).models[0]
        start = TrialPoint.at(model)
    return model


def near_the_optimum(problem, distance, seed=0):
    """Return a point whose z is `distance` (RMS) from that of the optimum."""
    way = np.random.default_rng(seed).standard_normal(D)
    return reference_solution(problem).x + distance * way / np.std(problem.A @ way)


def error(G, exact):
    return np.linalg.norm(G - exact) / np.linalg.norm(exact)


# --- the surrogate ---------------------------------------------------------------


@pytest.mark.parametrize("unit", ["exp+linear", "exp"])
def test_the_surrogate_agrees_with_all_rows_to_second_order(unit):
    problem, whole, sample = objectives(unit=unit)
    x = near_the_optimum(problem, 0.3)
    all_rows, part = model_at(whole, x), model_at(sample, x)
    assert error(part.hessian, all_rows.hessian) > 0.02  # they do differ
    tilted = Surrogate(sample, all_rows, part).tilt(part)
    np.testing.assert_allclose(tilted.loss, all_rows.loss, rtol=1e-12)
    np.testing.assert_allclose(tilted.gradient, all_rows.gradient, rtol=1e-9)
    np.testing.assert_allclose(tilted.hessian, all_rows.hessian, rtol=1e-9)


def test_gradient_and_hessian_of_the_surrogate_are_its_derivatives():
    problem, whole, sample = objectives()
    x = near_the_optimum(problem, 0.3)
    surrogate = Surrogate(sample, model_at(whole, x), model_at(sample, x))
    y = near_the_optimum(problem, 0.2, seed=1)
    here = surrogate.tilt(model_at(sample, y))
    for j in range(D):
        h = 1e-5 * np.eye(D)[j]
        up, down = (surrogate.tilt(model_at(sample, y + s * h)) for s in (1, -1))
        slope, bend = (up.loss - down.loss) / 2e-5, (up.gradient - down.gradient) / 2e-5
        np.testing.assert_allclose(slope, here.gradient[j], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(bend, here.hessian[j], rtol=1e-5, atol=1e-9)


# --- the guide -------------------------------------------------------------------


def guide_of(sample, problem):
    b_norm = float(np.linalg.norm(problem.b))
    return SurrogateProposer(sample, M, None, b_norm, HessianReuse("exact"), lambda record: False)


@pytest.mark.parametrize("seed", range(4))
def test_the_sample_puts_right_what_predictions_were_off_by(seed):
    problem, whole, sample = objectives(seed)
    x = near_the_optimum(problem, 0.2)
    exact = model_at(whole, x)
    start = TrialPoint(x, exact.log_alpha + 0.1, exact.kappa * 1.5)
    evaluation = whole.evaluate([start], None, metric=True)
    metric, _ = whole.metric(evaluation)
    off = evaluation.models[0]
    refined = guide_of(sample, problem).refine(off, start, math.inf, metric)
    assert error(refined.gram, exact.gram) < 0.2 * error(off.gram, exact.gram)
    assert refined.doubt < off.doubt
    np.testing.assert_array_equal(refined.gradient, off.gradient)


def step_from(whole, sample, problem, x):
    """Return what is known at x, and the trial that the sample proposes there."""
    model = model_at(whole, x)
    start = TrialPoint.at(model)
    evaluation = whole.evaluate([start], None, metric=True)
    metric, _ = whole.metric(evaluation)
    guide = guide_of(sample, problem)
    model = guide.refine(evaluation.models[0], start, math.inf, metric)
    quadratic = QuadraticModel(model.gradient, model.hessian, metric, 0.0)
    at = Iterate(model, quadratic, quadratic.decrement, "start", 0.0, 1.0, 1, N, N)
    (trial,) = guide.propose(at, TrustRegion(1.0))
    return at, trial


@pytest.mark.parametrize("unit", ["exp+linear", "exp"])
def test_a_corrected_step_leaves_a_small_part_of_what_newtons_leaves(unit):
    problem, whole, _ = objectives(0, unit, penalties=False)
    ratios = []
    for seed in range(6):
        _, _, sample = objectives(seed, unit, penalties=False)
        at, trial = step_from(whole, sample, problem, near_the_optimum(problem, 0.1, seed))
        newton = at.model.x + at.quadratic.metric.basis @ at.quadratic.newton
        left = []
        for x in (trial.start.x, newton):
            model = model_at(whole, x)
            quadratic = QuadraticModel(model.gradient, model.hessian, at.quadratic.metric, 0.0)
            left.append(quadratic.decrement)
        ratios.append(left[0] / left[1])
        found = model_at(whole, trial.start.x)
        # the loss falls as promised, and α and κ are where they were predicted
        np.testing.assert_allclose(at.model.loss - found.loss, trial.promised, rtol=0.1)
        np.testing.assert_allclose(trial.start.log_alpha, found.log_alpha, atol=1e-3)
    assert np.median(ratios) < 0.3


def test_a_step_stays_within_the_trust_radius():
    problem, whole, sample = objectives()
    at, _ = step_from(whole, sample, problem, near_the_optimum(problem, 1.0))
    for radius in (0.01, 0.1, 0.5):
        guide = guide_of(sample, problem)
        guide.refine(at.model, TrialPoint.at(at.model), math.inf, at.quadratic.metric)
        for trial in guide.propose(at, TrustRegion(radius)):
            assert 0 < trial.step.norm <= radius * (1 + 1e-9)


def test_one_exact_hessian_is_carried_over_short_steps():
    """With more than 64 columns; the answer is that of Hessians read anew."""
    problem = synthetic(n=30_000, d=80, noise="mild")
    result = dresoftmax.solve(problem.A, problem.b, seed=0, hessian="exact")
    full = [r for r in result.history if r.phase == "full" and r.step != "unread"]
    assert result.success
    assert full[0].rows_sketched == 30_000
    assert full[-1].rows_sketched == 0, "no Hessian was carried"
    # two solves of tolerance 1e-8, in units of the distribution
    tight = dresoftmax.solve(problem.A, problem.b, seed=0, tol=1e-12)
    z, best = problem.A @ result.x, problem.A @ tight.x
    np.testing.assert_allclose(z, best, atol=1e-5)


# --- the start -------------------------------------------------------------------


def test_the_starts_lie_opposite_each_other_along_the_lowest_curvature():
    problem, whole, _ = objectives()
    origin = TrialPoint.origin(N, D, (1.0 - float(problem.b.sum())) / N)
    journal = FitHistory(N, Observers([]))
    starts, _ = _starts(whole, origin, journal)
    assert len(starts) == 2
    evaluation = whole.evaluate([origin], None, metric=True)
    metric, _ = whole.metric(evaluation)
    at_zero = QuadraticModel(
        evaluation.models[0].gradient, evaluation.models[0].hessian, metric, 0.0
    )
    lowest = np.linalg.eigvalsh(at_zero.H)[0]
    for start in starts:
        y = np.linalg.lstsq(metric.basis, start.x, rcond=None)[0]
        np.testing.assert_allclose(y @ at_zero.H @ y / (y @ y), lowest, rtol=1e-9)
    np.testing.assert_allclose(
        starts[0].x / np.linalg.norm(starts[0].x), -starts[1].x / np.linalg.norm(starts[1].x)
    )


# --- where a last read is saved --------------------------------------------------


def test_the_decrement_is_foreseen_by_the_law_it_has_followed():
    watch = {
        law: Termination(target=1e-8, b_norm=1.0, max_iter=9, foresight=law)
        for law in ("none", "linear", "quadratic")
    }
    assert watch["none"].foresee(1e-2, 1e-6) == math.inf
    assert watch["quadratic"].foresee(math.inf, 1e-6) == math.inf
    # Newton's method: C = 3, then C < 1, which counts as 1; each with a margin of 20
    np.testing.assert_allclose(watch["quadratic"].foresee(1e-3, 3e-6), 20 * 3 * 9e-12)
    np.testing.assert_allclose(watch["quadratic"].foresee(1e-1, 1e-5), 20 * 1e-10)
    # with a Hessian of another point it falls by the same factor
    np.testing.assert_allclose(watch["linear"].foresee(1e-3, 1e-5), 20 * 1e-7)
    # never below rounding, and not at all where the target is too near to it
    assert watch["quadratic"].foresee(1e-4, 1e-12) >= 1e-13
    close = Termination(target=1e-12, b_norm=1.0, max_iter=9, foresight="quadratic")
    assert close.foresee(1e-4, 1e-8) == math.inf
