"""The picture of the fits: the loss of each model on each distribution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from measure import Row

from dresoftmax.plots import COLOURS, GREY

TITLES = {
    "own": "attention over the head's own keys\n(softmax is true)",
    "other": "attention over another head's keys\n(no model is true)",
    "mean": "mean attention of all queries\n(no model is true)",
    "cars": "shares of cars, all years\n(no model is true)",
    "year": "shares of cars, one year\n(no model is true)",
}
COLOURS_OF = {
    "exp": COLOURS[0], "exp+linear": COLOURS[1], "cosh": COLOURS[2], "sinh": COLOURS[3],
}  # fmt: skip
FLOOR = 1e-12
# Losses above this are drawn as arrows.
LIMIT = 0.6


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw a panel for each kind of distribution, a line for each model."""
    groups = [group for group in TITLES if any(row["group"] == group for row in rows)]
    models = list(dict.fromkeys(row["model"] for row in rows))[::-1]
    figure = Figure(
        figsize=(2.8 * len(groups) + 1.6, 0.36 * len(models) + 1.8), layout="constrained"
    )
    all_axes = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for ax, group in zip(all_axes, groups, strict=True):
        for height, model in enumerate(models):
            found = [row for row in rows if (row["group"], row["model"]) == (group, model)]
            colour = COLOURS_OF.get(model.split(",")[0], GREY)
            for key, lift, face in (("loss", 0.16, colour), ("out_loss", -0.16, "none")):
                values = np.array([row[key] for row in found])
                for shown, marker in ((values <= LIMIT, "o"), (values > LIMIT, ">")):
                    ax.scatter(
                        np.clip(values[shown], FLOOR, LIMIT),
                        np.full(shown.sum(), height + lift), s=22, facecolor=face,
                        edgecolor=colour, linewidths=0.9, alpha=0.75, zorder=3, marker=marker,
                        clip_on=False,
                    )  # fmt: skip
        ax.locator_params(axis="x", nbins=4)
        if group == "own":
            ax.set_xscale("log")
            ax.text(
                FLOOR, len(models) - 1, "exact", color=GREY, ha="center", va="center",
                fontsize="small", rotation=90,
            )  # fmt: skip
        else:
            ax.set_xlim(0.0, LIMIT)
        ax.set_title(TITLES[group], loc="left", fontsize="medium")
        ax.set_xlabel("½‖f − b‖² / ‖b‖²")
        ax.set_yticks(range(len(models)), models)
        ax.tick_params(left=False)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#e6e6e6", linewidth=0.6)
        ax.set_axisbelow(True)
    for face, label in ((GREY, "all rows"), ("none", "rows not seen (30 %); arrows: beyond")):
        all_axes[0].scatter([], [], s=22, facecolor=face, edgecolor=GREY, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=140)
