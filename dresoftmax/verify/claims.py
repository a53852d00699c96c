"""The outcome of an experiment: claims with the numbers that decide them, tables and pictures.

Records only: nothing here computes or draws.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Claim",
    "Curve",
    "Kind",
    "Picture",
    "Section",
    "Source",
    "Table",
    "Verdict",
    "number",
    "summary",
]

Cell = str | int | float


class Source(enum.StrEnum):
    """Where a claim comes from."""

    PAPER = "paper"
    DERIVED = "derived here"
    REPLACED = "derived here, because the paper's constant could not be found"
    ASCRIBED = "paper, with constants ascribed to it"


class Verdict(enum.StrEnum):
    """The outcome of a claim, see `Kind`."""

    PASS = "pass"
    FAIL = "fail"
    HOLDS = "holds here"
    NOT_AS_STATED = "does not hold as stated"
    APPLIES = "applies"
    NOT_APPLICABLE = "does not apply"

    @property
    def tone(self) -> str:
        """How to show it: "good", "bad", or "note" if it deserves attention."""
        if self is Verdict.FAIL:
            return "bad"
        return "note" if self in (Verdict.NOT_AS_STATED, Verdict.NOT_APPLICABLE) else "good"


class Kind(enum.Enum):
    """Whether a claim must hold, with its verdict if it holds and its verdict if not."""

    REQUIRED = (Verdict.PASS, Verdict.FAIL)
    STATED = (Verdict.HOLDS, Verdict.NOT_AS_STATED)
    GUARANTEE = (Verdict.APPLIES, Verdict.NOT_APPLICABLE)


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement that is true or false, and the number that decides it.

    Attributes
    ----------
    text : str
    source : Source
    holds : bool
    evidence : str
    kind : Kind
        REQUIRED claims must hold; STATED claims are tested as their source states them, and
        may fail; a GUARANTEE is a condition that data may or may not meet.
    """

    text: str
    source: Source
    holds: bool
    evidence: str
    kind: Kind = Kind.REQUIRED

    @property
    def verdict(self) -> Verdict:
        """The outcome."""
        return self.kind.value[0 if self.holds else 1]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]

    @property
    def cells(self) -> list[list[str]]:
        """All entries as text."""
        return [[number(cell) for cell in row] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) with a label; `line` is "-" or "--", or "" for markers only."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    line: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """Curves on one pair of axes; `log` names the logarithmic axes: "", "y" or "xy"."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    log: str = "y"


@dataclass(frozen=True, slots=True)
class Section:
    """One experiment.

    Attributes
    ----------
    title : str
    method : str
        What the experiment does.
    findings : sequence of str
        The results, in plain words.
    claims, tables, pictures : sequences
    """

    title: str
    method: str
    findings: Sequence[str]
    claims: Sequence[Claim]
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()

    @property
    def failed(self) -> bool:
        """Whether a required claim fails."""
        return any(claim.verdict is Verdict.FAIL for claim in self.claims)


def summary(sections: Sequence[Section]) -> str:
    """Return a sentence that says how many claims hold."""
    verdicts = [claim.verdict for section in sections for claim in section.claims]
    passed, failed = (verdicts.count(verdict) for verdict in (Verdict.PASS, Verdict.FAIL))
    words = f"{passed} of {passed + failed} required claims hold"
    untrue = verdicts.count(Verdict.NOT_AS_STATED)
    return f"{words}; claims that do not hold as stated: {untrue}." if untrue else f"{words}."


def number(value: Cell) -> str:
    """Return a cell as text: integers in full, other numbers with three digits.

    >>> number(20000), number(-0.000123456), number(1.5), number(float("nan"))
    ('20,000', '−1.23e−04', '1.5', '–')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    plain = value == 0.0 or 1e-2 <= abs(value) < 1e4
    text = f"{value:.2e}" if not plain else f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}"
    return text.replace("-", "−")  # a line may break after a hyphen
