"""The picture of the peers: the gradient over time, and the times on all problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from measure import Row

from dresoftmax.plots import GREY

OWN = "#D55E00"
# A colour for each family of peers, a dash for each of its members.
FAMILIES = {"SciPy": "#0072B2", "PyTorch": "#CC79A7", "optimistix": "#009E73", "Dask": "#B8860B"}
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
# Problems by the rows of A: from how many on, and the shade.
SHADES = {1_000: "#c3dcee", 10_000: "#7fb2d5", 100_000: "#2b6ca3", 500_000: "#0b2747"}
TITLE: dict[str, Any] = {"loc": "left", "fontsize": "medium"}
# What a point of the right panel stands for.
MARKS: dict[str, dict[str, Any]] = {
    "solved": {"marker": "o", "s": 34, "linewidths": 0.6, "edgecolors": "white"},
    "stopped at the time limit": {"marker": ">", "s": 34, "linewidths": 0.6, "edgecolors": "white"},
    "gave up": {"marker": "x", "s": 26, "linewidths": 1.4},
}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the showcase, which is the last problem, beside all problems."""
    rows = [row for row in rows if row["solver"] != "zeros"]
    figure = Figure(figsize=(13.5, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    _draw_curves([row for row in rows if row["problem"] == rows[-1]["problem"]], left)
    _draw_ratios(rows, right)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    figure.savefig(path, dpi=160)


def _draw_curves(rows: Sequence[Row], ax: Axes) -> None:
    """Draw the least gradient so far against seconds, a curve for each solver."""
    used = dict.fromkeys(FAMILIES, 0)
    for row in sorted(rows, key=lambda row: row["seconds"]):
        seconds, gradients = np.array(
            [[float(part) for part in point.split(":")] for point in row["curve"].split()]
        ).T
        # The end of the solve, at the last gradient.
        seconds = np.concatenate([seconds, [row["seconds"]]])
        gradients = np.concatenate([gradients, gradients[-1:]])
        family = next((name for name in FAMILIES if row["solver"].startswith(name)), None)
        if family is None:
            workers = row["solver"] != "dresoftmax"
            style = {"color": OWN, "linewidth": 2.6, "linestyle": DASHES[workers], "zorder": 5}
        else:
            style = {"color": FAMILIES[family], "linewidth": 1.5, "linestyle": DASHES[used[family]]}
            used[family] += 1
        label = f"{row['solver']}  {row['seconds']:.3g} s"
        label += " (limit)" if row["reached"] == "no" and "capped" in row["note"] else ""
        ax.plot(seconds, gradients, label=label, **style)
        ax.plot(seconds[-1:], gradients[-1:], "o", color=style["color"], markersize=5, zorder=6)
    ax.axhline(1e-8, color=GREY, linestyle="--", linewidth=1, zorder=1)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("seconds, compilation left out")
    ax.set_ylabel("‖∇L(x)‖ / ‖∇L(0)‖, least so far")
    title = f"One problem: {rows[0]['n']:,} × {rows[0]['d']}, condition number 100"
    ax.set_title(title, **TITLE)
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize="small",
        handlelength=2.6, labelspacing=0.6,
    )  # fmt: skip


def _draw_ratios(rows: Sequence[Row], ax: Axes) -> None:
    """Draw the time of each peer over that of dresoftmax, a point for each problem."""
    peers = [row for row in rows if not row["solver"].startswith("dresoftmax")]
    names = list(dict.fromkeys(row["solver"] for row in peers))
    middle = {
        name: np.median([row["times_dresoftmax"] for row in peers if row["solver"] == name])
        for name in names
    }
    names.sort(key=lambda name: -middle[name])
    rng = np.random.default_rng(0)
    for row in peers:
        kind = "solved"
        if row["reached"] == "no":
            kind = "stopped at the time limit" if "capped" in row["note"] else "gave up"
        height = names.index(row["solver"]) + rng.uniform(-0.25, 0.25)
        shade = SHADES[max(size for size in SHADES if size <= row["n"])]
        ax.scatter(row["times_dresoftmax"], height, color=shade, **MARKS[kind])
    ax.axvline(1.0, color=OWN, linewidth=2.6, zorder=1)
    ax.text(
        1.0, 0.01, "dresoftmax ", color=OWN, transform=ax.get_xaxis_transform(), ha="right",
        va="bottom", rotation=90, fontweight="bold",
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yticks(range(len(names)), names)
    ax.xaxis.set_major_locator(LogLocator())
    ax.set_xlabel("seconds / seconds of dresoftmax")
    ax.set_ylim(-0.7, len(names) - 0.4)
    ax.set_title("All problems", **TITLE)
    for size, shade in SHADES.items():
        ax.scatter([], [], color=shade, label=f"n ≥ {size:,}", **MARKS["solved"])
    for kind, mark in MARKS.items():
        ax.scatter([], [], color=GREY, label=kind, **mark)
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.45, -0.12), ncols=4, frameon=False, fontsize="small",
        handletextpad=0.1, columnspacing=1.2,
    )  # fmt: skip
