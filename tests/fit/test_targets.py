"""Several targets over the same rows: the answers of single solves, in the same reads."""

from __future__ import annotations

import threading
from collections import Counter

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from helpers.problems import attention, spectrum_matrix, target

import dresoftmax
from dresoftmax import IterationRecord, JointResult, Status

N, D, K = 3000, 4, 5


def data(n=N, d=D, k=K, seed=0):
    rng = np.random.default_rng(seed)
    A = spectrum_matrix(n, d, 5.0, rng)
    fits = [target(A, x, "exp+linear", "mild", rng) for x in rng.standard_normal((k, d)) / 2]
    return A, np.stack(fits, axis=1)


def assert_each_as_alone(A, b, rtol=1e-6, **options):
    """Hold the joint answer against those of single solves, and return both."""
    joint = dresoftmax.solve(A, b, seed=0, **options)
    singles = [dresoftmax.solve(A, b[:, t], seed=0, **options) for t in range(b.shape[1])]
    assert joint.success
    np.testing.assert_allclose(joint.x, np.stack([s.x for s in singles], axis=1), rtol=rtol)
    np.testing.assert_allclose(joint.fun, [s.fun for s in singles], rtol=1e-9)
    return joint, singles


# --- answers ---------------------------------------------------------------------


@pytest.mark.parametrize("hessian", ["auto", "exact", "leverage", "uniform", "countsketch"])
def test_the_answers_are_those_of_single_solves(hessian):
    A, b = data()
    joint, _ = assert_each_as_alone(A, b, hessian=hessian, sketch_size=1000, tol=1e-9)
    assert len(joint) == K
    assert joint.x.shape == joint.jac.shape == (D, K)


@pytest.mark.parametrize("unit", ["exp", "exp+linear"])
def test_with_a_sample_too(samples, unit):
    A, b = data(n=20_000)
    joint, _ = assert_each_as_alone(A, b, unit=unit, tol=1e-9)
    assert {record.phase for record in joint.history} == {"sample", "full"}


def test_with_sparse_rows_weights_and_ridge(samples):
    A, b = data(n=12_000)
    A = scipy.sparse.csr_array(np.where(np.abs(A) > 0.5, A, 0.0))
    assert_each_as_alone(A, b, w=1e-5, ridge=1e-6, tol=1e-9)


def test_real_attention_weights():
    problems = [attention("exp+linear", query) for query in (0, 1, 3)]
    b = np.stack([problem.b for problem in problems], axis=1)
    assert_each_as_alone(problems[0].A, b, rtol=1e-4)


def test_on_a_cluster_as_in_this_process(client):
    A, b = data(n=20_000)
    here = dresoftmax.solve(A, b, seed=0)
    lazy = [
        da.from_array(b, chunks=(700, 2)),
        da.from_array(b, chunks=(20_000, K)),
        b,
    ]
    for targets in lazy:
        there = dresoftmax.solve(da.from_array(A, chunks=(3000, D)), targets, seed=0)
        np.testing.assert_allclose(there.x, here.x, rtol=1e-6, atol=1e-9)


def test_one_column_is_one_target_in_a_joint_result():
    A, b = data()
    joint = dresoftmax.solve(A, b[:, :1], seed=0)
    single = dresoftmax.solve(A, b[:, 0], seed=0)
    assert isinstance(joint, JointResult)
    np.testing.assert_array_equal(joint.x, single.x[:, None])
    assert joint.data_passes == single.data_passes


def test_starts_for_all_or_for_each():
    A, b = data()
    starts = np.random.default_rng(1).normal(scale=0.1, size=(D, K))
    best = dresoftmax.solve(A, b, seed=0, tol=1e-10).x
    for x0 in (starts, starts[:, 0]):
        found = dresoftmax.solve(A, b, seed=0, tol=1e-10, x0=x0).x
        np.testing.assert_allclose(found, best, rtol=1e-6)
    for shape in ((D, K + 1), (K, D)):
        with pytest.raises(ValueError, match="x0"):
            dresoftmax.solve(A, b, x0=np.zeros(shape))


# --- reads -----------------------------------------------------------------------


def reads_of(result, n):
    """Count the reads of all rows."""
    return sum(record.rows_read for record in result.history if record.phase == "full") / n


def test_the_reads_are_shared(samples):
    A, b = data(n=20_000)
    joint, _ = assert_each_as_alone(A, b)
    own = [reads_of(result, len(A)) for result in joint]
    on_samples = sum(r.rows_read for r in joint.history if r.phase == "sample") / len(A)
    assert joint.data_passes <= max(own) + on_samples
    assert joint.data_passes < sum(result.data_passes for result in joint) / 1.5


def test_targets_that_have_converged_drop_out():
    """The second target starts at its solution."""
    A, b = data(k=2)
    best = dresoftmax.solve(A, b[:, 1], tol=1e-12).x
    x0 = np.stack([np.zeros(D), best], axis=1)
    joint = dresoftmax.solve(A, b, x0=x0)
    count = Counter(record.target for record in joint.history)
    assert count[1] == 1 < count[0]
    assert list(joint.nit) == [count[0] - 1, 0]


def test_each_target_has_a_status_of_its_own():
    """The mass of target 1 lies on one row, and its solution at infinity."""
    A, b = data()
    b[:, 1] = np.eye(N)[np.argmax(A[:, 0])]
    joint = dresoftmax.solve(A, b, unit="exp", max_iter=60)
    assert joint.status[1] in (Status.SOLUTION_AT_INFINITY, Status.ITERATION_LIMIT)
    assert {*joint.status[:1], *joint.status[2:]} == {Status.CONVERGED}
    assert not joint.success
    assert "4 of 5" in joint.message
    assert "Target 1" in joint.message
    assert joint[1].message in joint.message


# --- what a user sees ------------------------------------------------------------


def test_records_come_target_by_target_whatever_the_threads_do(samples):
    A, b = data(n=20_000)
    orders = []
    for _ in range(3):
        seen = []
        dresoftmax.solve(A, b, seed=0, callback=seen.append)
        orders.append([(record.target, record.iteration, record.step) for record in seen])
    assert orders[0] == orders[1] == orders[2]
    assert {target for target, *_ in orders[0]} == set(range(K))


def test_a_callback_runs_in_the_calling_thread_and_may_end_all():
    A, b = data()
    seen = []

    def stop(record):
        seen.append(threading.current_thread())
        return record.target == 2

    joint = dresoftmax.solve(A, b, callback=stop)
    assert set(joint.status) == {Status.CALLBACK_STOP}
    assert set(seen) == {threading.main_thread()}
    assert all(isinstance(record, IterationRecord) for record in joint.history)


def test_targets_that_do_not_sum_to_one_warn_once():
    A, b = data()
    b[:, [1, 3]] *= 2.0
    with pytest.warns(UserWarning, match=r"b\[:, 1\].*2 of 5") as caught:
        dresoftmax.solve(A, b)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("b", "words"),
    {
        "no column": (np.empty((N, 0)), "target"),
        "three dimensions": (np.empty((N, 2, 2)), "dimension"),
        "other rows": (np.full((N - 1, 2), 1 / N), str(N - 1)),
        "transposed": (np.full((2, N), 1 / N), r"length 2, .* pass b\.T"),
        "NaN": (
            np.where(np.arange(2 * N) == 2 * 7 + 1, np.nan, 1 / N).reshape(N, 2),
            "row 7, column 1;",
        ),
    }.values(),
)
def test_wrong_targets_are_refused(b, words):
    with pytest.raises(ValueError, match=rf"^b .*{words}"):
        dresoftmax.solve(data()[0], b)


def test_a_result_reads_well():
    A, b = data(k=2)
    text = repr(dresoftmax.solve(A, b))
    assert "2 of 2 targets converged." in text
    assert "history" not in text


def test_bad_rows_of_A_are_named_with_several_targets():
    A, b = data()
    A[47, 1] = np.nan
    with pytest.raises(ValueError, match="row 47"):
        dresoftmax.solve(A, b)
