"""Whatever the combination of containers and options, the problem is that of plain NumPy.

A, b and w come each in a container of its own, cut anywhere, held or loaded in each
read, for one target or several, in this process and on a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import dask.array as da
import numpy as np
import pytest
from helpers.forms import DENSE, KINDS, NAMED, SPARSE, as_dask, blocks_of_A, cuts, labels
from helpers.problems import Problem, alpha, reference_solution, spectrum_matrix, target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dresoftmax
from dresoftmax import JointResult
from dresoftmax.fit import hessian_policy
from dresoftmax.inputs.containers import unpack
from dresoftmax.placement import chunks as placing

N, D, K = 600, 4, 3
TOL = 1e-9


def make_data():
    """Return whole numbers, and targets and weights that float32 holds."""
    rng = np.random.default_rng(11)
    A = np.round(6 * spectrum_matrix(N, D, 3.0, rng))
    A[3] = 0
    points = rng.uniform(-0.1, 0.1, (K, D))
    B = np.stack([target(A, x, "exp+linear", "mild", rng) for x in points], axis=1)
    w = rng.uniform(0, 0.4, N) / N
    return A, *(values.astype(np.float32).astype(float) for values in (B, w))


A, B, W = make_data()
WEIGHTS = {"none": None, "scalar": 0.2 / N, "vector": W}


@cache
def problem(unit, weights, t):
    return Problem(A, B[:, t], unit, WEIGHTS[weights])


def assert_minimum(result, problem):
    """Hold x against the certified minimum, and all else against plain NumPy at x."""
    assert result.success, result.message
    x = result.x
    np.testing.assert_allclose(x, reference_solution(problem).x, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(result.fun, problem.loss(x), rtol=1e-8)
    np.testing.assert_allclose(result.alpha, alpha(problem.dense, x, problem.unit), rtol=1e-8)
    assert result.rank == reference_solution(problem).rank
    g = problem.gradient(x)
    inverse = np.linalg.pinv(problem.hessian(x), hermitian=True)
    for part in (g, g - result.jac):
        assert np.sqrt(part @ inverse @ part) <= 2 * TOL * np.linalg.norm(problem.b)


# --- what is drawn ---------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """Values of `dtype` in one of the containers of `forms`."""

    form: str
    dtype: str

    def of(self, values, folder):
        folder.mkdir()
        forms = DENSE if self.form in DENSE else SPARSE
        values = values.astype(self.dtype)
        return forms[self.form](values, *([folder] if forms is DENSE else []))

    def names(self, values):
        return labels(values) if self.form in NAMED and values.ndim == 2 else None

    @property
    def is_vector(self):
        """Whether one column is a vector, for there is no other way to write one."""
        return self.form in ("path of .parquet", "path of a directory")


@dataclass(frozen=True)
class Cut:
    """Values in a dask array of chunks of any length, and of columns where there are any."""

    ends: tuple[int, ...]
    width: int
    is_vector = False

    def of(self, values, folder):
        return da.from_array(values, chunks=(tuple(np.diff(self.ends)), self.width)[: values.ndim])

    def names(self, values):
        return None


@dataclass(frozen=True)
class Blocks:
    """Blocks of A of mixed kinds and types, in a dask array that says otherwise."""

    blocks: Any
    known: bool

    def of(self, values, folder):
        return as_dask(self.blocks, "float64", self.known)

    def names(self, values):
        return None


CUT = st.builds(Cut, cuts(N).map(tuple), st.integers(1, D))
# netCDF 3 has no wider integers.
HELD_A = st.builds(
    Held, st.sampled_from([*DENSE, *SPARSE]), st.sampled_from(["f8", "f4", "i4", "i2", "i1"])
)
HELD_B = st.builds(Held, st.sampled_from(list(DENSE)), st.sampled_from(["f8", "f4"]))
BLOCKS = st.builds(Blocks, blocks_of_A([list(KINDS)], A), st.booleans())
CASES = {
    "held_A": HELD_A | CUT | BLOCKS,
    "held_b": HELD_B | CUT,
    "held_w": HELD_B | CUT,
    "targets": st.sampled_from([None, 1, 2, K]),
    "weights": st.sampled_from(list(WEIGHTS)),
    "unit": st.sampled_from(["exp", "exp+linear"]),
    "persist": st.sampled_from([None, True, False]),
    "hessian": st.sampled_from(["auto", "exact", "leverage", "uniform", "countsketch"]),
    "sampled": st.booleans(),
    "vectors_loaded": st.booleans(),
}


def few(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def check(
    folder, client, *, held_A, held_b, held_w, targets, weights, unit, persist, hessian, sampled,
    vectors_loaded,
):  # fmt: skip
    b = B[:, 0] if targets is None else B[:, :targets]
    data = held_A.of(A, folder / "A")
    w = held_w.of(W, folder / "w") if weights == "vector" else WEIGHTS[weights]
    if client is not None and not isinstance(unpack("A", data, client)[0], da.Array):
        persist = None  # workers cannot load what lies in this process
    with pytest.MonkeyPatch.context() as patch:
        if sampled:
            patch.setattr(hessian_policy, "LEAST_ENTRIES", 0)
        if vectors_loaded and client is None:  # to workers their rows would travel in the graph
            patch.setattr(placing, "VECTORS", 0.0)
        result = dresoftmax.solve(
            data, held_b.of(b, folder / "b"), w=w, unit=unit, persist=persist, hessian=hessian,
            sketch_size=None if hessian in ("auto", "exact") else 300, tol=TOL, seed=0,
            client=client,
        )  # fmt: skip
    # How many entries there are in chunks to be loaded is a guess where they are sparse.
    if not isinstance(held_A, Blocks):
        assert ("sample" in {record.phase for record in result.history}) == sampled
    assert result.names == held_A.names(A)
    if targets is None or (targets == 1 and held_b.is_vector):
        assert_minimum(result, problem(unit, weights, 0))
        return
    assert isinstance(result, JointResult)
    assert len(result) == targets
    assert result.target_names == held_b.names(b)
    for t, each in enumerate(result):
        assert_minimum(each, problem(unit, weights, t))


@few(60)
@given(**CASES)
def test_combinations_in_this_process(tmp_path_factory, **case):
    check(tmp_path_factory.mktemp("case"), None, **case)


# --- on a cluster ----------------------------------------------------------------


@few(12)
@given(**CASES)
def test_combinations_on_two_workers(tmp_path_factory, client, **case):
    check(tmp_path_factory.mktemp("case"), client, **case)
