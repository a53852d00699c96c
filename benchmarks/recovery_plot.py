"""The picture of recovery: the error of each method against each disturbance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measure import Row

from dresoftmax.plots import COLOURS, GREY

STYLES = {
    "log-linear": {"color": GREY, "marker": "s"},
    "log-linear, weighted": {"color": COLOURS[4], "marker": "D"},
    "likelihood": {"color": COLOURS[2], "marker": "^"},
    "exp": {"color": COLOURS[1], "marker": "o"},
    "exp, kept": {"color": COLOURS[5], "marker": "v"},
}
LABELS = {
    "log-linear": "least squares of log b",
    "log-linear, weighted": "the same, weighted by b",
    "likelihood": "largest likelihood",
    "exp": "dresoftmax",
    "exp, kept": "dresoftmax, rows with b > 0",
}
KINDS = {
    "noise": ("noise on each share", "relative size of the noise"),
    "counts": ("shares counted from draws", "number of draws"),
    "top": ("all but the largest shares set to zero", "shares kept"),
    "rounding": ("shares rounded", ""),
}
GROWTHS = {
    ("noise", 1e-2): "noise of 1 %, as the context grows",
    ("counts", 10**6): "a million draws, as the context grows",
}
# Below this an answer is exact.
FLOOR = 1e-9
Medians = dict[int, dict[str, float]]


def medians(rows: Sequence[Row], kind: str, level: object) -> Medians:
    """Return the median error over the heads, by n and method."""
    found: dict[int, dict[str, list[float]]] = {}
    for row in rows:
        if (row["disturbed"], row["level"]) == (kind, level):
            found.setdefault(row["n"], {}).setdefault(row["method"], []).append(row["error"])
    return {
        n: {method: float(np.median(errors)) for method, errors in by_method.items()}
        for n, by_method in found.items()
    }


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw a panel for each disturbance, and two for growing contexts."""
    figure = Figure(figsize=(12.5, 6.8), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    most = max(row["n"] for row in rows)
    for ax, (kind, (title, label)) in zip(axes, KINDS.items(), strict=False):
        levels = list(dict.fromkeys(row["level"] for row in rows if row["disturbed"] == kind))
        points = {level: medians(rows, kind, level)[most] for level in levels}
        if kind == "rounding":
            places = dict(zip(levels, range(len(levels)), strict=True))
            ax.set_xticks(range(len(levels)), levels)
            ax.set_xlim(-0.5, len(levels) - 0.5)
        else:
            places = {level: float(level) for level in levels}
            ax.set_xscale("log")
        _draw_methods({places[level]: errors for level, errors in points.items()}, kind, ax)
        ax.set_title(title, loc="left", fontsize="medium")
        ax.set_xlabel(label)
    for ax, ((kind, level), title) in zip(axes[len(KINDS) :], GROWTHS.items(), strict=True):
        _draw_methods(medians(rows, kind, level), kind, ax)
        ax.set_xscale("log")
        ax.set_title(title, loc="left", fontsize="medium")
        ax.set_xlabel("number of keys n")
    for ax in axes:
        ax.set_yscale("log")
        ax.set_ylim(FLOOR / 3.0, 10.0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
    for ax in axes[::3]:
        ax.set_ylabel("‖x − q‖ / ‖q‖, median")
    for method, style in STYLES.items():
        axes[0].plot([], [], label=LABELS[method], linestyle="-", **style)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False)  # fmt: skip
    figure.savefig(path, dpi=140)


def _draw_methods(points: dict[float, dict[str, float]], kind: str, ax: Axes) -> None:
    for method, style in STYLES.items():
        known = {x: errors[method] for x, errors in points.items() if method in errors}
        if known:
            values = np.clip([*known.values()], FLOOR, None)
            line = "none" if kind == "rounding" else "-"
            ax.plot([*known], values, linestyle=line, linewidth=1.6, markersize=6, **style)
