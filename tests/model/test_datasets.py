"""The attention data that comes with the package."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dresoftmax.datasets import load_attention


@pytest.fixture(scope="module")
def head():
    return load_attention()


def test_shapes_and_types_are_as_documented(head):
    assert (head.keys.shape, head.keys.dtype) == ((16384, 32), np.float16)
    assert (head.queries.shape, head.queries.dtype) == ((8, 32), np.float32)
    assert np.isfinite(head.keys).all()
    assert len(np.unique(head.keys, axis=0)) == len(head.keys)


def test_every_load_gives_the_same_data_of_its_own(head):
    other = load_attention()
    np.testing.assert_array_equal(head.keys, other.keys)
    assert not np.shares_memory(head.keys, other.keys)


@pytest.mark.parametrize("query", range(8))
def test_b_is_the_distribution_of_the_query(head, query):
    A, b = head.problem(query)
    assert A.dtype == b.dtype == np.float64
    assert b.min() > 0
    np.testing.assert_allclose(b.sum(), 1.0, rtol=1e-12)
    z = head.keys.astype(float) @ head.queries[query].astype(float) / np.sqrt(32)
    np.testing.assert_allclose(np.log(b), z - np.log(np.exp(z).sum()), atol=1e-12)
    np.testing.assert_allclose(A * np.sqrt(32), head.keys.astype(float), rtol=1e-15)


def test_the_query_is_the_only_answer(head):
    """The centred keys have full rank, so no other x gives the same softmax."""
    A, _ = head.problem()
    assert np.linalg.matrix_rank(A - A.mean(axis=0)) == 32


def test_an_unknown_query_is_an_error(head):
    with pytest.raises(IndexError):
        head.problem(8)


def test_the_record_cannot_be_changed(head):
    with pytest.raises(dataclasses.FrozenInstanceError):
        head.keys = None
