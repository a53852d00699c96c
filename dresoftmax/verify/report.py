"""The experiments as one HTML file that contains its pictures and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from dresoftmax.utils.atomic_write import atomic_write
from dresoftmax.verify.claims import Section, summary
from dresoftmax.verify.figures import drawn

__all__ = ["write_report"]

TITLE = "The paper, verified"


def write_report(path: Path, sections: Sequence[Section], facts: Mapping[str, str]) -> None:
    """Write the report atomically; `facts` describe the run.

    Raises
    ------
    OSError
        If the file could not be written.
    """
    templates = Environment(
        loader=PackageLoader("dresoftmax.verify", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = templates.get_template("report.html").render(
        title=TITLE,
        summary=summary(sections),
        failed=any(section.failed for section in sections),
        facts=facts,
        sections=sections,
        drawn=drawn,
    )
    with atomic_write(path) as file:
        file.write(page.encode())
