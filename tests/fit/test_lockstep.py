"""How the reads of several solves become one: queries joined, and solves in step."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
import scipy.sparse
from helpers.problems import spectrum_matrix

from dresoftmax.blocks.make import make_block
from dresoftmax.fit.lockstep import in_lockstep
from dresoftmax.model.units import UNITS
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query, Sketch, join

N, D, K = 500, 4, 5


def data():
    rng = np.random.default_rng(0)
    return spectrum_matrix(N, D, 5.0, rng), rng.dirichlet(np.full(N, 2.0), size=K).T


# --- how reads are joined --------------------------------------------------------


@pytest.mark.parametrize("form", [np.ascontiguousarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("kind", ["none", "exact", "leverage", "countsketch"])
def test_joined_queries_have_the_answers_of_each(kind, form):
    A, b = data()
    block = make_block(0, form(A), b, 0.01)
    rng = np.random.default_rng(3)
    queries = [
        Query(
            rng.normal(scale=0.2, size=(points, D)),
            np.full(points, np.log(500)),
            np.full(points, 1e-3 * i),
            UNITS["exp+linear"],
            Sketch(kind, 0.3, 0.1, rng.normal(size=(2, D)), (0, i)),
            column_gram=i == 2,
            target=i,
        )
        for i, points in enumerate((1, 3, 2, 1))
    ]
    joint = evaluate_blocks(queries, [block], 1).each
    for query, sums in zip(queries, joint, strict=True):
        alone = evaluate_blocks([query], [block], 1).each[0]
        for name in ("scalars", "vectors", "gram", "squares"):
            np.testing.assert_allclose(
                getattr(sums, name), getattr(alone, name), rtol=1e-12, err_msg=name
            )
    assert len(join(queries)) == (2 if kind in ("none", "exact") else 4)


def test_dense_and_sparse_blocks_may_lie_side_by_side():
    A, b = data()
    ends = [(0, 100), (100, 101), (101, 350), (350, 500)]
    forms = [np.ascontiguousarray, scipy.sparse.csr_array, partial(np.asarray, dtype="f4")]
    x = np.full((1, D), 0.1)
    for kind in ("none", "exact", "uniform", "countsketch"):
        sketch = Sketch(kind, 0.5, entropy=(1, 1))
        query = Query(
            x, np.log([500.0]), np.zeros(1), UNITS["exp+linear"], sketch, column_gram=kind != "none"
        )
        blocks, plain = (
            [
                make_block(i, (forms[i % 3] if mixed else np.asarray)(A[s:t]), b[s:t], None)
                for i, (s, t) in enumerate(ends)
            ]
            for mixed in (True, False)
        )
        for threads in (1, 3):
            found, expected = (
                evaluate_blocks([query], each, threads).each[0] for each in (blocks, plain)
            )
            np.testing.assert_allclose(found.scalars, expected.scalars, rtol=1e-5)
            np.testing.assert_allclose(found.gram, expected.gram, rtol=1e-4, atol=1e-6)
            assert (found.rows, found.sketched) == (expected.rows, expected.sketched)


# --- solves in step --------------------------------------------------------------


def countdown(start, read):
    """Ask for `start`, `start` − 1, … and return the answers."""
    return [read(value) for value in range(start, 0, -1)]


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_solves_in_step_share_each_read(cores):
    asked = []

    def read(queries):
        asked.append(list(queries))
        return [10 * query for query in queries]

    found = in_lockstep([partial(countdown, start) for start in (3, 1, 0, 2)], read, cores)
    assert found == [[30, 20, 10], [10], [], [20, 10]]
    assert asked == [[3, 1, 2], [2, 1], [1]]


def test_no_more_solves_run_than_there_are_cores():
    running, most = set(), []

    def solve(number, read):
        for _ in range(5):
            running.add(number)
            most.append(len(running))
            running.remove(number)
            read(number)

    in_lockstep([partial(solve, i) for i in range(6)], lambda queries: queries, 2)
    assert max(most) <= 2


@pytest.mark.parametrize("where", ["solve", "read"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_all_solves(where, error):
    """It is raised in the calling thread, and no thread is left."""
    before, left = threading.active_count(), []

    def solve(number, read):
        try:
            read(number)
            if where == "solve" and number == 1:
                raise error("of a solve")
            read(number)
        finally:
            left.append(number)

    def read(queries):
        if where == "read":
            raise error("of a read")
        return queries

    with pytest.raises(error, match=f"of a {where}"):
        in_lockstep([partial(solve, i) for i in range(4)], read, 2)
    assert sorted(left) == [0, 1, 2, 3]
    assert threading.active_count() == before
