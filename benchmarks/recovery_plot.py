"""The picture of recovery: the error of each method against each disturbance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measure import Row

from dresoftmax.plots import COLOURS, GREY

# Hollow marks of different sizes remain visible if they coincide.
STYLES: dict[str, dict[str, Any]] = {
    "log-linear": {"color": GREY, "marker": "s", "markersize": 10},
    "log-linear, weighted": {"color": COLOURS[4], "marker": "D", "markersize": 8},
    "likelihood": {"color": COLOURS[2], "marker": "^", "markersize": 7},
    "exp": {"color": COLOURS[1], "marker": "o", "markersize": 6},
    "exp, kept": {"color": COLOURS[0], "marker": "x", "markersize": 7},
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
# Errors below this count as exact.
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
        for n, by_method in sorted(found.items())
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
    for ax in axes[: len(KINDS)]:
        ax.set_ylim(FLOOR / 5.0, 10.0)
        ax.axhline(FLOOR, color=GREY, linewidth=0.8, linestyle=":")
        ax.text(
            0.28, 1.5 * FLOOR, "exact", color=GREY, va="bottom", transform=ax.get_yaxis_transform(),
            fontsize="small",
        )  # fmt: skip
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
    for ax in axes[::3]:
        ax.set_ylabel("‖x − q‖ / ‖q‖, median")
    for method, style in STYLES.items():
        axes[0].plot([], [], label=LABELS[method], linestyle="-", markerfacecolor="none", **style)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False)  # fmt: skip
    figure.savefig(path, dpi=140)


def _draw_methods(points: dict[float, dict[str, float]], kind: str, ax: Axes) -> None:
    for method, style in STYLES.items():
        known = {x: errors[method] for x, errors in points.items() if method in errors}
        if known:
            values = np.clip([*known.values()], FLOOR, None)
            line = "none" if kind == "rounding" else "-"
            ax.plot(
                [*known], values, linestyle=line, linewidth=1.3, markerfacecolor="none", **style
            )
