"""The picture of other units: reads of A by dresoftmax and by L-BFGS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from measure import Row

from dresoftmax.plots import COLOURS, GREY

SOLVERS = {"dresoftmax": (COLOURS[1], 0.14), "L-BFGS": (COLOURS[0], -0.14)}
TITLES = {"synthetic": "synthetic problems", "attention": "attention"}
# Losses that differ by less, over ‖b‖², are those of one optimum.
SAME = 1e-6
NEAR = 1e-6


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw a panel for each kind of problem, a line for each unit and loss."""
    forms = list(dict.fromkeys(row["form"] for row in rows))[::-1]
    figure = Figure(figsize=(9.5, 0.42 * len(forms) + 1.8), layout="constrained")
    all_axes = figure.subplots(1, 2, sharey=True)
    for ax, (kind, title) in zip(all_axes, TITLES.items(), strict=True):
        for row in rows:
            if row["problem"].startswith(kind):
                colour, lift = SOLVERS[row["solver"]]
                ax.scatter(
                    row["reads"], forms.index(row["form"]) + lift, s=30, edgecolor=colour,
                    facecolor="none" if failed(row) else colour, alpha=0.8, zorder=3,
                )  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlabel("reads of A")
        ax.set_yticks(range(len(forms)), forms)
        ax.set_title(title, loc="left", fontsize="medium")
        ax.tick_params(left=False)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
    for solver, (colour, _) in SOLVERS.items():
        all_axes[0].scatter([], [], s=30, color=colour, label=solver)
    all_axes[0].scatter(
        [], [], s=30, edgecolor=GREY, facecolor="none", label="not converged, or a worse optimum"
    )
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=140)


def failed(row: Row) -> bool:
    """Return whether a solve ended before its optimum, or in a worse one than the other.

    L-BFGS may end by itself a little before the tolerance, by rounding of the loss.
    """
    near = row["solver"] == "L-BFGS" and row["gradient"] <= NEAR
    return row["excess"] > SAME or not (near or row["status"] == "CONVERGED")
