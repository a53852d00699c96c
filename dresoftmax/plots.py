"""Two pictures: how a solve converged, and how a fitted distribution fits.

Both draw into axes that the caller made and return nothing, so that they compose
with any figure.  Matplotlib is an extra (``pip install 'dresoftmax[plot]'``); this
module itself imports without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from dresoftmax.result import SolveResult

__all__ = ["COLOURS", "GREY", "finish", "plot_convergence", "plot_fit"]

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
GREY = "#6b6b6b"
MARK = 5.5
MAX_POINTS = 20_000
# Height of the strip for rows whose fit is not positive, as a part of the axes.
STRIP = 0.07


def plot_convergence(
    results: Mapping[str, SolveResult], *, norm_b: float, tol: float, ax: Axes
) -> None:
    """Draw the Newton decrement against the rows of A read.

    Hollow markers are iterates on the sample of rows, before the first read of all rows;
    filled markers are iterates on all rows.  An iterate whose Hessian is not positive definite
    has no decrement, and leaves a gap in its curve.

    Parameters
    ----------
    results : mapping of str to SolveResult
        Label and result of each curve.
    norm_b : float
        ‖b‖₂, which the decrements are divided by.
    tol : float
        The tolerance of the solves, drawn as a line.
    ax : matplotlib.axes.Axes
        Where to draw.
    """
    sampled = False
    for (label, result), colour in zip(results.items(), cycle(COLOURS), strict=False):
        full = [record for record in result.history if record.phase == "full"]
        begun = full[0].iteration if full else len(result.history)
        # Between reads of all rows, the sample only anticipates the next read.
        sample = [record for record in result.history[:begun] if record.step != "anchor"]
        for phase, history, face, line in (
            ("sample", sample, "white", ":"), ("full", full, colour, "-"),
        ):  # fmt: skip
            passes = [record.data_passes for record in history]
            decrement = np.array([record.decrement for record in history]) / norm_b
            decrement[~np.isfinite(decrement)] = np.nan
            ax.plot(
                passes, decrement, color=colour, linestyle=line, linewidth=1.5, marker="o",
                markersize=MARK, markerfacecolor=face,
            )  # fmt: skip
            sampled |= phase == "sample" and bool(history)
        ax.plot([], [], color=colour, marker="o", markersize=MARK, label=label)
    if sampled:
        ax.plot(
            [], [], color=GREY, linestyle=":", marker="o", markersize=MARK,
            markerfacecolor="white", label="on a sample of rows",
        )  # fmt: skip
    ax.axhline(tol, color=GREY, linestyle="--", linewidth=1, label="tolerance", zorder=1)
    ax.set_yscale("log")
    ax.set_xlim(left=0)
    ax.set_xlabel("rows of A read / n")
    ax.set_ylabel("Newton decrement / ‖b‖")
    finish(ax)


def plot_fit(given: ArrayLike, fitted: Mapping[str, ArrayLike], *, ax: Axes) -> None:
    """Draw fitted distributions against the given one, both on logarithmic scales.

    Rows whose fitted value is not positive have no place on such a scale.  A strip below it
    shows them, and the legend gives their share.

    Parameters
    ----------
    given : array_like of shape (n,)
        The target b.
    fitted : mapping of str to array_like of shape (n,)
        Label and f(x) = u(Ax)/α of each set of points.
    ax : matplotlib.axes.Axes
        Where to draw.

    Notes
    -----
    At most 20,000 evenly spaced rows are taken; of these, the rows with b > 0 are drawn.
    """
    b = np.asarray(given, dtype=np.float64)
    rows = np.linspace(0, len(b) - 1, min(len(b), MAX_POINTS)).astype(int)
    rows = rows[b[rows] > 0]
    ends = [b[rows].min(), b[rows].max()]
    ax.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, zorder=4, label="fitted = given")
    ax.set_xscale("log")
    ax.set_yscale("log")
    style: dict[str, Any] = {"s": 4, "alpha": 0.25, "linewidths": 0, "rasterized": True}
    beneath = []
    for (label, values), colour in zip(fitted.items(), cycle(COLOURS), strict=False):
        f = np.asarray(values, dtype=np.float64)
        positive = rows[f[rows] > 0]
        ax.scatter(b[positive], f[positive], color=colour, **style)
        share = np.mean(f <= 0)
        if share:
            beneath.append((b[rows[f[rows] <= 0]], colour))
            label = f"{label} (≤ 0 in {share:.0%} of rows)"
        ax.plot([], [], color=colour, linestyle="none", marker="o", markersize=MARK, label=label)
    if beneath:
        _draw_strip(ax, beneath, style)
    ax.set_xlabel("given distribution b")
    ax.set_ylabel("fitted distribution f")
    finish(ax)


def _draw_strip(ax: Axes, beneath: list[tuple[np.ndarray, str]], style: dict[str, Any]) -> None:
    """Draw points at their b, at random heights in a strip below all others."""
    low, high = np.log10(ax.get_ylim())
    ax.set_ylim(10 ** (low - (high - low) * STRIP / (1 - STRIP)), 10**high)
    ax.axhspan(ax.get_ylim()[0], 10**low, color="#f2f2f2", zorder=0)
    ax.text(0.99, STRIP / 2, "f ≤ 0", transform=ax.transAxes, ha="right", va="center", color=GREY)
    rng = np.random.default_rng(0)
    for b, colour in beneath:
        heights = rng.uniform(0.1 * STRIP, 0.9 * STRIP, len(b))
        ax.scatter(b, heights, color=colour, transform=ax.get_xaxis_transform(), **style)


def finish(ax: Axes, columns: int = 4) -> None:
    """Remove clutter, and put the legend above the data in the given number of columns."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1.01), ncols=columns, frameon=False, borderaxespad=0,
        fontsize="small", handlelength=1.6, columnspacing=1.4,
    )  # fmt: skip
