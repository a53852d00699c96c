"""Pictures of an experiment, as SVG in a data URL, so that the page needs no other file.

Matplotlib is an extra (``pip install 'dresoftmax[plot]'``).
"""

from __future__ import annotations

import base64
import io
from itertools import cycle
from typing import Any

from dresoftmax.plots import COLOURS, GREY, finish
from dresoftmax.verify.claims import Picture

__all__ = ["check_drawable", "drawn"]

MARKS = "osD^vP"
SIZE = (6.2, 4.0)


def check_drawable() -> None:
    """Raise ValueError if pictures cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "the pictures of a report need matplotlib: pip install 'dresoftmax[plot]'"
        ) from error


def drawn(picture: Picture) -> str:
    """Return the picture as a data URL, always the same for the same picture."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    with mpl.rc_context({"svg.hashsalt": picture.title}):
        figure = Figure(figsize=SIZE, layout="constrained")
        ax = figure.subplots()
        looks = cycle(zip(COLOURS, MARKS, strict=True))
        for curve in picture.curves:
            # Dashed lines are theoretical curves, drawn without markers.
            if curve.line == "--":
                style: dict[str, Any] = {"color": GREY, "linestyle": "--"}
            else:
                colour, mark = next(looks)
                style = {"color": colour, "linestyle": curve.line or "none", "marker": mark}
            ax.plot(curve.x, curve.y, label=curve.label, markersize=4.5, linewidth=1.4, **style)
        for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
            if name in picture.log:
                ax.set(**{f"{name}scale": "log"})
                axis.set_minor_formatter(NullFormatter())  # powers of ten are enough
        ax.set_xlabel(picture.x_label)
        ax.set_ylabel(picture.y_label)
        finish(ax, columns=3)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
