"""Wrong input is an error before any work: it names the argument and says what to do.

Each row of a table is one mistake.  The data around it are right, so that only the
mistake can be what the error is about.
"""

from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import sparse
from helpers.problems import synthetic

import dresoftmax

N, D = 60, 3
SOLVE = dresoftmax.solve


def data():
    problem = synthetic(n=N, d=D)
    return problem.A.copy(), problem.b.copy()


def with_entry(array, index, value):
    array = np.array(array, dtype=float)
    array[index] = value
    return array


A, b = data()

# what is passed, the error, and what its message must mention
MISTAKES = {
    # shapes
    "A is 1-D": ({"A": A[:, 0]}, ValueError, ["A", "dimension"]),
    "A is 3-D": ({"A": A[None]}, ValueError, ["A", "dimension"]),
    "b is a row": ({"b": b[None]}, ValueError, ["b", "60"]),
    "b is 3-D": ({"b": b[:, None, None]}, ValueError, ["b", "60"]),
    "b is a scalar": ({"b": np.float64(1.0)}, ValueError, ["b"]),
    "b is shorter": ({"b": b[:-1]}, ValueError, ["b", "59", "60"]),
    "b is longer": ({"b": np.append(b, 0.0)}, ValueError, ["b", "61", "60"]),
    "b is d long": ({"b": b[:D]}, ValueError, ["b", "60"]),
    "lazy b is shorter": ({"b": da.from_array(b[:-1], chunks=20)}, ValueError, ["b", "59"]),
    "w is shorter": ({"w": np.ones(N - 1)}, ValueError, ["w", "59", "60"]),
    "w is 2-D": ({"w": np.ones((N, 1))}, ValueError, ["w"]),
    "w has d entries": ({"w": np.ones(D)}, ValueError, ["w", "60"]),
    "x0 is n long": ({"x0": np.zeros(N)}, ValueError, ["x0", "3"]),
    "x0 is 2-D": ({"x0": np.zeros((D, 1))}, ValueError, ["x0"]),
    "no rows": ({"A": A[:0], "b": b[:0]}, ValueError, ["A", "row"]),
    "no columns": ({"A": A[:, :0]}, ValueError, ["A", "column"]),
    # values
    "NaN in b": ({"b": with_entry(b, 7, np.nan)}, ValueError, ["b", "7"]),
    "inf in b": ({"b": with_entry(b, 7, np.inf)}, ValueError, ["b", "7"]),
    "NaN in lazy b": (
        {"b": da.from_array(with_entry(b, 7, np.nan), chunks=20)}, ValueError, ["b"],
    ),
    "NaN in w": ({"w": with_entry(np.ones(N), 7, np.nan)}, ValueError, ["w"]),
    "inf in w": ({"w": np.inf}, ValueError, ["w"]),
    "one negative w": ({"w": with_entry(np.ones(N), 7, -1e-9)}, ValueError, ["w"]),
    "negative scalar w": ({"w": -0.1}, ValueError, ["w"]),
    "negative ridge": ({"ridge": -1e-12}, ValueError, ["ridge"]),
    "NaN ridge": ({"ridge": np.nan}, ValueError, ["ridge"]),
    "inf ridge": ({"ridge": np.inf}, ValueError, ["ridge"]),
    "NaN in x0": ({"x0": [0.0, np.nan, 0.0]}, ValueError, ["x0"]),
    "inf in x0": ({"x0": [0.0, np.inf, 0.0]}, ValueError, ["x0"]),
    # options
    "unknown unit": ({"unit": "tanh"}, ValueError, ["unit", "tanh", "exp+linear"]),
    "unknown hessian": ({"hessian": "bfgs"}, ValueError, ["hessian", "bfgs", "leverage"]),
    "tol is zero": ({"tol": 0.0}, ValueError, ["tol"]),
    "tol is negative": ({"tol": -1e-8}, ValueError, ["tol"]),
    "tol is NaN": ({"tol": np.nan}, ValueError, ["tol"]),
    "max_iter is negative": ({"max_iter": -3}, ValueError, ["max_iter"]),
    "max_iter is a fraction": ({"max_iter": 2.5}, (ValueError, TypeError), ["max_iter"]),
    "sketch_size is zero": ({"sketch_size": 0}, ValueError, ["sketch_size"]),
    "sketch_size is negative": ({"sketch_size": -5}, ValueError, ["sketch_size"]),
    "sketch_size is a fraction": ({"sketch_size": 9.5}, (ValueError, TypeError), ["sketch_size"]),
    "seed is negative": ({"seed": -1}, ValueError, ["seed"]),
    "seed is text": ({"seed": "today"}, (ValueError, TypeError), ["seed"]),
    "callback is no function": ({"callback": 3}, TypeError, ["callback"]),
    "client is no client": ({"client": "tcp://127.0.0.1:1"}, TypeError, ["client"]),
    # types
    "A is None": ({"A": None}, TypeError, ["A"]),
    "A is the path of no file": ({"A": "A.npy"}, FileNotFoundError, ["A", "npy", "file"]),
    "A holds text": ({"A": A.astype(str)}, TypeError, ["A"]),
    "A holds objects": ({"A": A.astype(object)}, TypeError, ["A", "object"]),
    "A is complex": ({"A": A + 0j}, TypeError, ["A", "complex"]),
    "lazy A is complex": ({"A": da.from_array(A + 0j)}, TypeError, ["A", "complex"]),
    "A is complex and sparse": ({"A": scipy.sparse.csr_array(A + 0j)}, TypeError, ["A", "complex"]),
    "b is complex": ({"b": b + 0j}, TypeError, ["b", "complex"]),
    "b holds objects": ({"b": b.astype(object)}, TypeError, ["b", "object"]),
    "b is None": ({"b": None}, TypeError, ["b"]),
    "b is sparse": ({"b": scipy.sparse.csr_array(b[None])}, (TypeError, ValueError), ["b"]),
    "w is complex": ({"w": np.ones(N) + 0j}, TypeError, ["w", "complex"]),
    "w is text": ({"w": "heavy"}, ValueError, ["w", "heavy", "path"]),
    "ridge is text": ({"ridge": "heavy"}, TypeError, ["ridge"]),
    "ridge is complex": ({"ridge": 1j}, TypeError, ["ridge"]),
    "x0 holds text": ({"x0": ["a", "b", "c"]}, (TypeError, ValueError), ["x0"]),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(changes, error, words):
    A, b = data()
    arguments = {"A": A, "b": b, **changes}
    records = []
    with pytest.raises(error) as caught:
        SOLVE(**{"callback": records.append, **arguments})
    assert not records, "the error came after the solve had begun"
    assert_mentions(str(caught.value), *words)


def assert_mentions(message, *words):
    """Each word stands in the message as a word or number of its own."""
    tokens = "".join(ch if ch.isalnum() or ch in "+_" else " " for ch in message).split()
    for word in words:
        found = word in tokens or (len(word) > 2 and word.lower() in message.lower())
        assert found, f"{word!r} is not in: {message}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["numpy", "csr", "dask", "dask of csr"])
def test_the_first_bad_row_of_A_is_named(form, value):
    """Rows 47 and 55 are bad; with blocks of 20 rows both lie in block 2."""
    A, b = data()
    A[47, 1] = A[55, 0] = value
    forms = {
        "numpy": lambda: A,
        "csr": lambda: scipy.sparse.csr_array(A),
        "dask": lambda: da.from_array(A, chunks=(20, D)),
        "dask of csr": lambda: da.from_array(
            scipy.sparse.csr_array(A), chunks=(20, D), asarray=False
        ),
    }
    with pytest.raises(ValueError, match="block") as caught:
        SOLVE(forms[form](), b)
    message = str(caught.value)
    assert_mentions(message, "A")
    in_all, in_block = ("47" in message), ("7" in message and "2" in message)
    assert in_all or in_block, message
    assert_mentions(message, "row")
    if "dask" in form:
        assert_mentions(message, "2")


def test_x0_outside_the_domain_is_an_error_that_says_so():
    """All z = −5: exp(z) + z is negative in every row."""
    A = np.full((N, 1), -1.0)
    with pytest.raises(ValueError, match=r"x0.*domain"):
        SOLVE(A, np.full(N, 1 / N), x0=[5.0])
    # the same point is in the domain of plain softmax regression
    assert np.isfinite(SOLVE(A, np.full(N, 1 / N), x0=[5.0], unit="exp", ridge=1e-3).x).all()


@pytest.mark.parametrize("total", [0.5, 2.0, 100.0, -1.0])
def test_a_target_that_does_not_sum_to_one_warns(total):
    A, b = data()
    with pytest.warns(UserWarning, match=r"\bb\b"):
        result = SOLVE(A, b * total, max_iter=3)
    assert np.isfinite(result.x).all()


def test_rounding_of_b_does_not_warn():
    A, b = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SOLVE(A, b.astype("float32"))
        SOLVE(A, b * (1 + 1e-6))


def test_arguments_are_not_modified():
    A, b = data()
    given = {"A": A, "b": b, "w": np.full(N, 0.01), "x0": np.full(D, 0.1)}
    before = {name: value.copy() for name, value in given.items()}
    SOLVE(**given)
    for name, value in given.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_sparse_arguments_are_not_modified():
    """Unsorted column indices and duplicates are put in order in a copy."""
    A, b = data()
    csr = scipy.sparse.csr_array(A)
    csr.indices = csr.indices.reshape(-1, D)[:, ::-1].ravel().copy()
    csr.data = csr.data.reshape(-1, D)[:, ::-1].ravel().copy()
    csr.has_sorted_indices = False
    before = csr.data.copy(), csr.indices.copy(), csr.indptr.copy()
    result = SOLVE(csr, b, tol=1e-11)
    for now, then in zip((csr.data, csr.indices, csr.indptr), before, strict=True):
        np.testing.assert_array_equal(now, then)
    np.testing.assert_allclose(result.x, SOLVE(A, b, tol=1e-11).x, rtol=1e-8)


@pytest.mark.parametrize("form", ["list", "tuple", "integer", "0-d array"])
def test_plain_python_numbers_and_sequences_are_accepted(form):
    A, b = data()
    plain = SOLVE(A, b, w=1.0, x0=np.zeros(D))
    forms = {
        "list": {"x0": [0.0] * D, "w": [1.0] * N},
        "tuple": {"x0": (0.0,) * D, "w": (1.0,) * N},
        "integer": {"x0": [0] * D, "w": 1, "ridge": 0},
        "0-d array": {"x0": np.zeros(D), "w": np.array(1.0), "ridge": np.array(0.0)},
    }
    np.testing.assert_allclose(SOLVE(A, b, **forms[form]).x, plain.x, rtol=1e-8, atol=1e-12)


def test_options_are_keywords_and_unknown_ones_are_refused():
    A, b = data()
    with pytest.raises(TypeError, match="positional"):
        SOLVE(A, b, 0.1)
    with pytest.raises(TypeError, match="no_such_option"):
        SOLVE(A, b, no_such_option=1)


@pytest.mark.parametrize("kind", [sparse.COO, sparse.GCXS])
def test_arrays_of_the_sparse_package_are_taken(kind):
    A, b = data()
    A[np.abs(A) < np.median(np.abs(A))] = 0.0
    options = {"seed": 0, "ridge": 1e-3}
    expected = dresoftmax.solve(scipy.sparse.csr_array(A), b, **options)
    result = dresoftmax.solve(kind.from_numpy(A), b, **options)
    np.testing.assert_array_equal(result.x, expected.x)


@pytest.mark.parametrize("kind", [sparse.COO, sparse.GCXS])
def test_a_fill_value_that_is_not_zero_is_refused(kind):
    A, b = data()
    with pytest.raises(ValueError, match="fill value"):
        dresoftmax.solve(kind.from_numpy(A, fill_value=1.0), b)
