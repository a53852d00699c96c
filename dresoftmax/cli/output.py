"""The end of a solve as the command shows it: a table for the terminal.

Numbers come from the result; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text  # names are no markup

from dresoftmax.result import JointResult, SolveResult

__all__ = ["result_table"]


def result_table(result: SolveResult | JointResult, output: Path | None) -> RenderableType:
    """Return the end of a solve as a table: of two columns, or with a row for each target."""
    single = isinstance(result, SolveResult)
    each: Sequence[SolveResult] = [result] if isinstance(result, SolveResult) else result
    fits = Table(box=None, header_style="bold", collapse_padding=True)
    fits.add_column("target", overflow="fold")
    fits.add_column("status")
    for name in ("loss", "decrement", "to reach", "α", "iterations"):
        fits.add_column(name, justify="right", no_wrap=True)
    names = getattr(result, "target_names", None) or range(len(each))
    for name, fit in zip(names, each, strict=True):
        fits.add_row(
            Text(str(name)), _words(fit), f"{fit.fun:.6e}", f"{fit.decrement:.2e}",
            f"{fit.target_decrement:.2e}", f"{fit.alpha:.4e}", str(fit.nit),
        )  # fmt: skip
    first = each[0]
    on_sample = sum(
        r.phase == "sample" and r.step not in ("start", "anchor") for r in first.history
    )
    rows = {"message": result.message}
    if single:
        rows = {
            "status": _words(first),
            **rows,
            "loss": f"{first.fun:.10e}",
            "decrement": f"{first.decrement:.3e} (target {first.target_decrement:.3e})",
            "error of x, estimated": f"{first.x_error_estimate:.3e}",
            "α": f"{first.alpha:.6e}",
            "iterations": f"{on_sample} on a sample of rows, {first.nit} on all rows",
        }
    rows |= {
        "rank": f"{first.rank} of {len(first.x)}",
        "Hessian": first.hessian_kind,
        "rows read / n": f"{result.data_passes:.2f}",
        "seconds": f"{result.history[-1].seconds:.2f}" if result.history else "0",
    }
    if output is not None:
        rows["saved in"] = str(output)
    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table if single else Group(fits, table)


def _words(result: SolveResult) -> str:
    return result.status.name.lower().replace("_", " ")
