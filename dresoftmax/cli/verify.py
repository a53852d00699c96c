"""The command ``dresoftmax verify``: run the experiments, show what came of each claim.

Everything heavy is imported inside, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dresoftmax import __version__
from dresoftmax.cli.errors import plain_errors
from dresoftmax.cli.options import cluster_options
from dresoftmax.model.units import UNITS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dresoftmax.verify.claims import Section

__all__ = ["verify"]

COLOURS = {"good": "green", "bad": "bold red", "note": "yellow"}


@click.command()
@click.argument("a", metavar="[A", required=False)
@click.argument("b", metavar="B]", required=False)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path),
    help="Write all tables and pictures here, as .html.",
)  # fmt: skip
@cluster_options
@click.option(
    "--unit", type=click.Choice(list(UNITS)),
    help="Pointwise function that B is fitted with.  [default: exp+linear]",
)  # fmt: skip
@click.option("--w", metavar="PATH", help="Weights w ≥ 0 of ½‖diag(w)Ax‖².")
@click.option("--ridge", type=float, help="λ ≥ 0 of ½λ‖x‖².  [default: 0]")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="Of problems and sketches: the same seed gives the same numbers.",
)  # fmt: skip
def verify(
    a: str | None,
    b: str | None,
    report: Path | None,
    where: Any,
    unit: str | None,
    w: str | None,
    ridge: float | None,
    seed: int,
) -> None:
    """Try the claims of the paper on problems with known answers, and on A and B.

    The parts of the Hessian and its sign, the Lipschitz constant, exact and approximate
    Newton, sketches of each kind: each claim with its outcome and the number that shows
    it.  With A and B, which are files as for solve, also whether the guarantees apply to
    them, and how far they are from them.  All options except --report and --seed are about
    A and B.

    Exit status: 0 all required claims hold, 1 one does not, 2 wrong input or usage.
    """
    given = {"w": w, "ridge": ridge, "unit": unit}
    if (a is None) != (b is None):
        raise click.UsageError("A and B belong together; give both or neither")
    if a is None and (where, w, ridge, unit) != (None,) * 4:
        raise click.UsageError(
            "--w, --ridge, --unit and those of clusters are about A and B; give them too"
        )
    with plain_errors():
        if report is not None:
            from dresoftmax.cli.files import check_outputs
            from dresoftmax.verify.figures import check_drawable

            check_outputs({"report": report}, (a, b, w))
            check_drawable()
        from rich.console import Console

        console, sections = Console(), []
        for section in _sections(a, b, where, seed, given):
            console.print(_outline(section))
            sections.append(section)
        if report is not None:
            from dresoftmax.verify.report import write_report

            facts = {"A": a, "B": b, **given, "seed": str(seed), "dresoftmax": __version__}
            write_report(report, sections, {k: str(v) for k, v in facts.items() if v is not None})
    from dresoftmax.verify.claims import summary

    console.print(summary(sections), *([f"The report is in {report}"] if report else []), sep="\n")
    sys.exit(1 if any(section.failed for section in sections) else 0)


def _sections(
    a: str | None, b: str | None, where: Any, seed: int, given: dict[str, Any]
) -> Iterator[Section]:
    """Run the experiments, the one on A and B first: wrong input is found at once."""
    from dresoftmax.verify import decomposition, lipschitz, newton, norms, sketches

    if a is not None:
        yield _own(a, b, where, seed, {k: v for k, v in given.items() if v is not None})
    for module in (decomposition, lipschitz, newton, sketches, norms):
        yield module.experiment(seed)


def _own(a: str, b: str | None, where: Any, seed: int, given: dict[str, Any]) -> Section:
    """Run the experiment on A and B, on a cluster if one is named."""
    from dresoftmax.verify import user_data

    if where is None:
        return user_data.experiment(a, b, seed=seed, **given)
    from dresoftmax.launch import open_cluster

    with open_cluster(where) as client:
        return user_data.experiment(a, b, seed=seed, client=client, **given)


def _outline(section: Section) -> RenderableType:
    """Return findings and claims for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text  # names are no markup

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("outcome", "claim", "what shows it"):
        table.add_column(name, overflow="fold")
    for claim in section.claims:
        outcome = Text(claim.verdict, style=COLOURS[claim.verdict.tone])
        table.add_row(outcome, Text(claim.text), Text(claim.evidence))
    findings = [Text(finding) for finding in section.findings]
    return Group(Text(section.title, style="bold"), *findings, table, "")
