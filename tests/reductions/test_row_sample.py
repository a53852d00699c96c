"""The sample of rows: who is in it, with what weight, and that the weights are right.

Bounds on random sums are five standard errors, which follow from the inclusion
probabilities πᵢ = min(1, ⅓m(1/n + |bᵢ|/‖b‖₁ + bᵢ²/‖b‖²)) as they are written out here.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
import scipy.sparse

from dresoftmax.blocks.csr import CsrBlock
from dresoftmax.blocks.make import make_block
from dresoftmax.model.losses import SquaredLoss
from dresoftmax.model.units import UNITS
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query, Sketch
from dresoftmax.reductions.row_sample import SamplePlan, draw_sample

N = 2000
FORMS = {"dense": np.ascontiguousarray, "csr": scipy.sparse.csr_array}
SIZES = [40, 300, 1900]


def data():
    """Return b with a few great entries, and A whose first column numbers the rows."""
    rng = np.random.default_rng(0)
    b = rng.dirichlet(np.full(N, 0.2))
    A = np.column_stack([np.arange(N), rng.standard_normal(N), b + rng.standard_normal(N)])
    return A, b


def blocks_of(form=np.ascontiguousarray, ends=(1, 500, 500, 1700), w=None):
    A, b = data()
    w = np.zeros(N) if w is None else w
    places = enumerate(pairwise((0, *ends, N)))
    return [make_block(i, form(A[s:t]), b[s:t], w[s:t]) for i, (s, t) in places]


def plan(size, seed=0):
    b = data()[1]
    return SamplePlan(
        size, SquaredLoss(), N, np.array([b.sum()]), np.array([np.linalg.norm(b)]), seed
    )


def probabilities(size):
    b = data()[1]
    return np.minimum(1.0, size * (1 / N + b / b.sum() + b**2 / (b @ b)) / 3)


def numbers(block):
    """Return which rows of A the block has."""
    return block.dense()[:, 0].astype(int)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_a_row_counts_with_one_over_its_probability(form, size):
    w = np.linspace(0, 1, N)
    sample = draw_sample(plan(size), blocks_of(form, w=w), 1)
    block = sample.cut(size)
    drawn = numbers(block)
    A, b = data()
    assert sample.rows == block.rows == len(drawn) == len(set(drawn))
    assert isinstance(block, CsrBlock) == (form is not np.ascontiguousarray)
    np.testing.assert_array_equal(drawn, np.sort(drawn))  # rows stay in their order
    np.testing.assert_array_equal(block.dense(), A[drawn])
    np.testing.assert_array_equal(block.b, b[None, drawn])
    np.testing.assert_array_equal(block.w2, w[drawn] ** 2)
    np.testing.assert_allclose(block.weight, 1.0 / probabilities(size)[drawn], rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_rows_are_drawn_with_their_probability(size):
    """Each of them, counted over many seeds; great entries of b always."""
    pi, seeds = probabilities(size), 400
    times = np.zeros(N)
    for seed in range(seeds):
        times[numbers(draw_sample(plan(size, seed), blocks_of(), 1).cut(size))] += 1
    assert (times[pi == 1.0] == seeds).all()
    assert (pi == 1.0).any() == (size > 40)
    deviation = (times - seeds * pi) / np.sqrt(seeds * pi)
    assert np.max(np.abs(deviation)) <= 6.5  # the largest of 2000, some with few counts
    error = np.sqrt(np.sum(pi * (1 - pi)) * seeds)
    assert abs(times.sum() - seeds * pi.sum()) <= 5 * error


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("part", [0.1, 1.0])
def test_weighted_sums_are_unbiased(size, part):
    """Σ1 ≈ n, ΣA and ‖b‖² from a sample or from a part cut out of it."""
    A, b = data()
    terms = np.column_stack([np.ones(N), A, b, b**2])
    pi, seeds = probabilities(part * size), 200
    found = np.zeros(terms.shape[1])
    for seed in range(seeds):
        block = draw_sample(plan(size, seed), blocks_of(), 1).cut(part * size)
        found += block.weight @ terms[numbers(block)] / seeds
    error = np.sqrt((1.0 / pi - 1.0) @ terms**2 / seeds)
    assert (np.abs(found - terms.sum(axis=0)) <= 5 * error).all()


def test_smaller_samples_lie_within_larger_ones():
    whole = draw_sample(plan(1000), blocks_of(), 1)
    sizes = [5, 20, 150, 700, 1000]
    drawn = [set(numbers(whole.cut(size))) for size in sizes]
    assert all(smaller < larger for smaller, larger in pairwise(drawn))
    # a part is the very sample that would have been drawn
    for size, rows in zip(sizes, drawn, strict=True):
        assert set(numbers(draw_sample(plan(size), blocks_of(), 1).cut(size))) == rows


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("groups", [[[0, 1, 2, 3, 4]], [[4], [2, 0], [3, 1]], [[3, 4, 0], [1, 2]]])
def test_the_sample_does_not_depend_on_who_draws_it(form, groups):
    blocks = blocks_of(form)
    expected = draw_sample(plan(300), blocks, 1).cut(150)
    parts = [draw_sample(plan(300), [blocks[i] for i in group], 3) for group in groups]
    assert sum(part.rows for part in parts) == reduce(add, parts).rows
    found = reduce(add, parts).cut(150)
    np.testing.assert_array_equal(numbers(found), numbers(expected))
    np.testing.assert_array_equal(found.weight, expected.weight)
    np.testing.assert_array_equal(found.b, expected.b)


def test_the_form_of_A_does_not_change_the_sample():
    dense, csr = (draw_sample(plan(300), blocks_of(form), 1).cut(300) for form in FORMS.values())
    np.testing.assert_array_equal(numbers(dense), numbers(csr))


def test_other_seeds_and_blocks_draw_other_rows():
    drawn = {
        tuple(numbers(draw_sample(plan(100, seed), blocks_of(ends=ends), 1).cut(100)))
        for seed in range(3)
        for ends in [(), (500,), (700,)]
    }
    assert len(drawn) == 9


def test_blocks_draw_each_for_itself():
    """Where the blocks are alike, the places of the rows drawn are not."""
    rows = np.arange(400.0)[:, None]
    blocks = [make_block(i, rows, np.full(400, 1.0 / N), None) for i in range(5)]
    sample = draw_sample(
        SamplePlan(500, SquaredLoss(), N, np.ones(1), np.full(1, N**-0.5), 0), blocks, 1
    )
    assert len({tuple(numbers(block)) for block in sample.blocks}) == 5


def test_sketches_do_not_follow_the_sample():
    """Rows that x was fitted to must not be those that its Hessian is taken of."""
    n, m, seed = 400, 100, 7
    b = np.full(n, 1.0 / n)
    # row i of the identity is in a sketch where G has a number in place i
    blocks = [make_block(i, scipy.sparse.eye_array(n), b, None) for i in range(4)]

    def sketched(number, block):
        sketch = Sketch("uniform", m / n, entropy=(seed, number))
        query = Query(np.zeros((1, n)), np.log([n]), np.zeros(1), UNITS["exp+linear"], sketch)
        return set(np.flatnonzero(np.diag(evaluate_blocks([query], [block], 1).each[0].gram[0])))

    for block in blocks:
        sample = draw_sample(
            SamplePlan(m, SquaredLoss(), n, np.ones(1), np.array([np.linalg.norm(b)]), seed),
            [block],
            1,
        )
        rows = set(sample.cut(m).A.indices)
        for number in range(4):
            for other in blocks:
                common = len(rows & sketched(number, other))
                assert abs(common - m * m / n) <= 0.3 * m, (block.index, number, other.index)


def test_a_sample_of_all_rows_is_the_problem_itself():
    block = draw_sample(plan(1e9), blocks_of(), 1).cut(1e9)
    np.testing.assert_array_equal(numbers(block), np.arange(N))
    np.testing.assert_array_equal(np.broadcast_to(block.weight, N), np.ones(N))
