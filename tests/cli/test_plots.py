"""The two pictures: what is drawn, and that it is labelled."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from helpers.problems import synthetic

import dresoftmax
from dresoftmax.plots import plot_convergence, plot_fit

figure = pytest.importorskip("matplotlib.figure")


@pytest.fixture(scope="module")
def result():
    problem = synthetic()
    return dresoftmax.solve(problem.A, problem.b, seed=0)


@pytest.fixture
def ax():
    return figure.Figure(layout="constrained").subplots()


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def saved(ax, tmp_path):
    path = tmp_path / "picture.png"
    ax.figure.savefig(path)
    return path.read_bytes().startswith(b"\x89PNG")


def in_phases(result, phases):
    history = [
        dataclasses.replace(record, phase=phase)
        for record, phase in zip(result.history, phases, strict=True)
    ]
    return dataclasses.replace(result, history=history)


def test_convergence_shows_the_decrement_over_the_rows_read(result, ax, tmp_path):
    result = in_phases(result, ["full"] * len(result.history))
    plot_convergence({"one": result}, norm_b=2.0, tol=1e-8, ax=ax)
    curve = ax.lines[1]
    np.testing.assert_array_equal(curve.get_xdata(), [r.data_passes for r in result.history])
    np.testing.assert_allclose(curve.get_ydata(), [r.decrement / 2.0 for r in result.history])
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel() == "rows of A read / n"
    assert ax.get_ylabel() == "Newton decrement / ‖b‖"
    assert saved(ax, tmp_path)


def test_convergence_marks_both_phases(result, ax):
    count = len(result.history)
    result = in_phases(result, ["sample"] * 2 + ["full"] * (count - 2))
    plot_convergence({"one": result}, norm_b=1.0, tol=1e-8, ax=ax)
    sample, full = ax.lines[:2]
    assert (len(sample.get_xdata()), len(full.get_xdata())) == (2, count - 2)
    assert sample.get_markerfacecolor() == "white" != full.get_markerfacecolor()
    assert legend(ax) == ["one", "on a sample of rows", "tolerance"]


def test_convergence_without_a_sample_does_not_name_one(result, ax):
    result = in_phases(result, ["full"] * len(result.history))
    plot_convergence({"a": result, "b": result}, norm_b=1.0, tol=1e-8, ax=ax)
    assert legend(ax) == ["a", "b", "tolerance"]


def test_convergence_leaves_a_gap_where_there_is_no_decrement(result, ax, tmp_path):
    result = in_phases(result, ["full"] * len(result.history))
    first = dataclasses.replace(result.history[0], decrement=math.inf)
    result = dataclasses.replace(result, history=[first, *result.history[1:]])
    plot_convergence({"one": result}, norm_b=1.0, tol=1e-8, ax=ax)
    assert np.isnan(ax.lines[1].get_ydata()[0])
    assert saved(ax, tmp_path)


def test_fit_shows_one_set_of_points_per_label(ax, tmp_path):
    b = np.geomspace(1e-6, 1e-1, 50)
    plot_fit(b, {"exp": 2 * b, "exp+linear": b}, ax=ax)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), np.c_[b, 2 * b])
    np.testing.assert_allclose(ax.collections[1].get_offsets(), np.c_[b, b])
    assert legend(ax) == ["fitted = given", "exp", "exp+linear"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert saved(ax, tmp_path)


def test_fit_draws_what_is_not_positive_in_a_strip_below(ax, tmp_path):
    b = np.geomspace(1e-6, 1e-1, 50)
    plot_fit(b, {"bad": np.where(np.arange(50) < 5, -b, b)}, ax=ax)
    points, strip = ax.collections
    assert (len(points.get_offsets()), len(strip.get_offsets())) == (45, 5)
    np.testing.assert_allclose(strip.get_offsets()[:, 0], b[:5])
    assert legend(ax)[1] == "bad (≤ 0 in 10% of rows)"
    assert ax.get_ylim()[0] < b[5]
    assert saved(ax, tmp_path)


def test_fit_thins_many_rows(ax):
    b = np.geomspace(1e-6, 1e-1, 50_000)
    plot_fit(b, {"exp": b}, ax=ax)
    points = ax.collections[0].get_offsets()
    assert len(points) == 20_000
    assert (points[0, 0], points[-1, 0]) == (b[0], b[-1])
    assert ax.collections[0].get_rasterized()
