"""The surrogate: the sample, tilted to all rows, says what a step leaves.

Objectives over all rows and over a sample of them are built as the solver builds
them; what the proposer makes of them is compared with what all rows say.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.problems import reference_solution, synthetic

import dresoftmax
from dresoftmax.blocks.make import make_block
from dresoftmax.engines.threads import ThreadsEngine
from dresoftmax.model.evaluation import TrialPoint
from dresoftmax.model.losses import SquaredLoss
from dresoftmax.model.units import UNITS
from dresoftmax.optimize.hessian_reuse import HessianReuse
from dresoftmax.optimize.history import FitHistory, Observers
from dresoftmax.optimize.initialization import _starts
from dresoftmax.optimize.objective import Objective
from dresoftmax.optimize.proposals import Iterate
from dresoftmax.optimize.quadratic_model import QuadraticModel
from dresoftmax.optimize.surrogate import SampleKnowledge, Surrogate, SurrogateProposer
from dresoftmax.optimize.termination import Termination
from dresoftmax.optimize.trust_region import TrustRegion
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.row_sample import SamplePlan, draw_sample
from dresoftmax.reductions.totals import read_totals

N, D, M = 6000, 6, 1500
LOSS = SquaredLoss()


def objectives(seed=0, unit="exp+linear", penalties=True):
    """Return the problem, its objective over all rows, and that over a sample."""
    w = "vector" if penalties else None
    problem = synthetic(n=N, d=D, cond=30.0, noise="mild", unit=unit, w=w, ridge=penalties)
    whole = ThreadsEngine([make_block(0, problem.A, problem.b, problem.w)])
    totals = whole.reduce(read_totals)
    plan = SamplePlan(M, LOSS, N, totals.b_norm1, totals.b_norm, seed)
    sample = whole.reduce(partial(draw_sample, plan))
    make = partial(
        Objective, totals=totals.of_target(0), d=D, unit=UNITS[unit], loss=LOSS,
        ridge=problem.ridge, seed=seed,
    )  # fmt: skip
    return problem, make(reader(whole)), make(reader(ThreadsEngine([sample.cut(M)])))


def reader(engine):
    return lambda query: engine.reduce(partial(evaluate_blocks, [query])).each[0]


def evaluation_at(objective, x):
    """Return the evaluation at x with its references exact."""
    point = TrialPoint(x, math.log(N), 0.0)
    for _ in range(3):
        evaluation = objective.evaluate([point]).evaluations[0]
        point = evaluation.point
    return evaluation


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
    all_rows, part = evaluation_at(whole, x), evaluation_at(sample, x)
    assert error(part.hessian, all_rows.hessian) > 0.02  # they do differ
    tilted = Surrogate(sample, all_rows, part).tilt(part)
    np.testing.assert_allclose(tilted.loss, all_rows.loss, rtol=1e-12)
    np.testing.assert_allclose(tilted.gradient, all_rows.gradient, rtol=1e-9)
    np.testing.assert_allclose(tilted.hessian, all_rows.hessian, rtol=1e-9)


def test_gradient_and_hessian_of_the_surrogate_are_its_derivatives():
    problem, whole, sample = objectives()
    x = near_the_optimum(problem, 0.3)
    surrogate = Surrogate(sample, evaluation_at(whole, x), evaluation_at(sample, x))
    y = near_the_optimum(problem, 0.2, seed=1)
    here = surrogate.tilt(evaluation_at(sample, y))
    for j in range(D):
        h = 1e-5 * np.eye(D)[j]
        up, down = (surrogate.tilt(evaluation_at(sample, y + s * h)) for s in (1, -1))
        slope, bend = (up.loss - down.loss) / 2e-5, (up.gradient - down.gradient) / 2e-5
        np.testing.assert_allclose(slope, here.gradient[j], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(bend, here.hessian[j], rtol=1e-5, atol=1e-9)


# --- the proposer ----------------------------------------------------------------


def proposer_of(sample):
    start = SampleKnowledge(None, HessianReuse("exact"))
    return SurrogateProposer(sample, M, start, lambda record: False)


def refine(proposer, evaluation, point, whitening):
    return proposer.refine(evaluation, point, math.inf, whitening, proposer.start)


@pytest.mark.parametrize("seed", range(4))
def test_the_sample_puts_right_what_predictions_were_off_by(seed):
    problem, whole, sample = objectives(seed)
    x = near_the_optimum(problem, 0.2)
    exact = evaluation_at(whole, x)
    point = TrialPoint(x, exact.log_alpha + 0.1, exact.kappa * 1.5)
    found = whole.evaluate([point], column_gram=True)
    whitening, _ = whole.whitening(found)
    off = found.evaluations[0]
    refined, _ = refine(proposer_of(sample), off, point, whitening)
    assert error(refined.gram, exact.gram) < 0.2 * error(off.gram, exact.gram)
    assert refined.doubt < off.doubt
    np.testing.assert_array_equal(refined.gradient, off.gradient)


def step_from(whole, sample, x):
    """Return what is known at x, and the trial that the sample proposes there."""
    point = evaluation_at(whole, x).point
    found = whole.evaluate([point], column_gram=True)
    whitening, _ = whole.whitening(found)
    proposer = proposer_of(sample)
    evaluation, known = refine(proposer, found.evaluations[0], point, whitening)
    quadratic = QuadraticModel(evaluation.gradient, evaluation.hessian, whitening, 0.0)
    at = Iterate(
        evaluation, quadratic, quadratic.decrement, "start", 0.0, TrustRegion(1.0), 1, N, N,
        found.draw, known,
    )  # fmt: skip
    (trial,) = proposer.propose(at, at.region).trials
    return at, trial


@pytest.mark.parametrize("unit", ["exp+linear", "exp"])
def test_a_corrected_step_leaves_a_small_part_of_what_newtons_leaves(unit):
    problem, whole, _ = objectives(0, unit, penalties=False)
    ratios = []
    for seed in range(6):
        _, _, sample = objectives(seed, unit, penalties=False)
        at, trial = step_from(whole, sample, near_the_optimum(problem, 0.1, seed))
        whitening = at.quadratic.whitening
        newton = at.evaluation.x + whitening.basis @ at.quadratic.newton
        left = []
        for x in (trial.point.x, newton):
            there = evaluation_at(whole, x)
            quadratic = QuadraticModel(there.gradient, there.hessian, whitening, 0.0)
            left.append(quadratic.decrement)
        ratios.append(left[0] / left[1])
        found = evaluation_at(whole, trial.point.x)
        # the loss falls as promised, and α and κ are where they were predicted
        np.testing.assert_allclose(at.evaluation.loss - found.loss, trial.promised, rtol=0.1)
        np.testing.assert_allclose(trial.point.log_alpha, found.log_alpha, atol=1e-3)
    assert np.median(ratios) < 0.3


def test_a_step_stays_within_the_trust_radius():
    problem, whole, sample = objectives()
    at, _ = step_from(whole, sample, near_the_optimum(problem, 1.0))
    for radius in (0.01, 0.1, 0.5):
        proposer = proposer_of(sample)
        _, known = refine(proposer, at.evaluation, at.evaluation.point, at.quadratic.whitening)
        proposal = proposer.propose(replace(at, known=known), TrustRegion(radius))
        assert proposal.trials
        for trial in proposal.trials:
            assert 0 < trial.step.norm <= radius * (1 + 1e-9)


def test_a_proposer_keeps_nothing_to_itself():
    """What it learns at one point does not change what it says of another, nor a second time."""
    problem, whole, sample = objectives()
    at, first = step_from(whole, sample, near_the_optimum(problem, 0.3))
    proposer = proposer_of(sample)
    other = evaluation_at(whole, near_the_optimum(problem, 1.0, seed=5))
    refine(proposer, other, other.point, at.quadratic.whitening)
    for _ in range(2):
        (again,) = proposer.propose(at, at.region).trials
        np.testing.assert_array_equal(again.point.x, first.point.x)


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
    origin = TrialPoint(np.zeros(D), math.log(N), (1.0 - float(problem.b.sum())) / N)
    history = FitHistory(N, Observers([]))
    starts, _ = _starts(whole, origin, history)
    assert len(starts) == 2
    found = whole.evaluate([origin], column_gram=True)
    whitening, _ = whole.whitening(found)
    (evaluation,) = found.evaluations
    at_zero = QuadraticModel(evaluation.gradient, evaluation.hessian, whitening, 0.0)
    lowest = np.linalg.eigvalsh(at_zero.H)[0]
    for start in starts:
        y = np.linalg.lstsq(whitening.basis, start.x, rcond=None)[0]
        np.testing.assert_allclose(y @ at_zero.H @ y / (y @ y), lowest, rtol=1e-9)
    np.testing.assert_allclose(
        starts[0].x / np.linalg.norm(starts[0].x), -starts[1].x / np.linalg.norm(starts[1].x)
    )


# --- where a last read is saved --------------------------------------------------


def test_the_decrement_is_foreseen_by_the_law_it_has_followed():
    termination = {
        law: Termination(target=1e-8, scale=1.0, max_iter=9, law=law)
        for law in ("none", "linear", "quadratic")
    }
    assert termination["none"].foresee(1e-2, 1e-6) == math.inf
    assert termination["quadratic"].foresee(math.inf, 1e-6) == math.inf
    # Newton's method: C = 3, then C < 1, which counts as 1; each with a margin of 20
    np.testing.assert_allclose(termination["quadratic"].foresee(1e-3, 3e-6), 20 * 3 * 9e-12)
    np.testing.assert_allclose(termination["quadratic"].foresee(1e-1, 1e-5), 20 * 1e-10)
    # with a Hessian of another point it falls by the same factor
    np.testing.assert_allclose(termination["linear"].foresee(1e-3, 1e-5), 20 * 1e-7)
    # never below rounding, and not at all where the target is too near to it
    assert termination["quadratic"].foresee(1e-4, 1e-12) >= 1e-13
    close = Termination(target=1e-12, scale=1.0, max_iter=9, law="quadratic")
    assert close.foresee(1e-4, 1e-8) == math.inf
