"""The claims of the paper, tried: each experiment, the command, and its report."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.commands import assert_refused, run
from helpers.problems import attention

from dresoftmax.verify import (
    decomposition,
    hessian_cases,
    lipschitz,
    newton,
    norms,
    sketches,
    user_data,
)
from dresoftmax.verify.claims import (
    Claim,
    Curve,
    Kind,
    Picture,
    Section,
    Source,
    Table,
    Verdict,
    number,
)
from dresoftmax.verify.report import write_report

SMALL = {
    "decomposition": lambda seed: decomposition.experiment(
        seed, grid=decomposition.Grid(rows=(24,), columns=(2,), conditions=(1.0, 10.0))
    ),
    "lipschitz": lambda seed: lipschitz.experiment(seed, rows=(6, 200), radii=(1.0, 2.0)),
    "newton": lambda seed: newton.experiment(seed, n=6_000, d=4, ways=2),
    "sketches": lambda seed: sketches.experiment(
        seed, n=40_000, d=6, sizes=(256, 1024, 4096), ways=3
    ),
    "norms": lambda seed: norms.experiment(seed, n=6_000, d=4, draws=2),
}
MODULES = {
    "decomposition": decomposition,
    "lipschitz": lipschitz,
    "newton": newton,
    "sketches": sketches,
    "norms": norms,
}


@pytest.fixture(scope="module")
def sections():
    return {name: make(0) for name, make in SMALL.items()}


def verdicts(section):
    return {claim.text: claim.verdict for claim in section.claims}


@pytest.mark.parametrize("name", SMALL)
def test_what_has_to_hold_does(sections, name):
    found = verdicts(sections[name])
    assert Verdict.PASS in found.values()
    assert Verdict.FAIL not in found.values(), found


def test_what_does_not_hold_as_stated_is_said(sections):
    found = verdicts(sections["decomposition"]) | verdicts(sections["lipschitz"])
    untrue = [text for text, verdict in found.items() if verdict is Verdict.NOT_AS_STATED]
    assert any("positive semidefinite, without w" in text for text in untrue)
    assert any("bound is useful" in text for text in untrue)
    assert any("vacuous" in finding for finding in sections["lipschitz"].findings)


@pytest.mark.parametrize("name", ["decomposition", "norms"])
def test_the_same_seed_gives_the_same_numbers(sections, name):
    again, other = SMALL[name](0), SMALL[name](1)
    assert again == sections[name]
    assert [table.cells for table in other.tables] != [t.cells for t in again.tables]


# --- a user's data -----------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Leave the experiments with known answers out."""
    for module in MODULES.values():
        section = Section(module.__name__, "", [], [claim(True)])
        monkeypatch.setattr(module, "experiment", lambda seed, section=section: section)


def claim(holds, kind=Kind.REQUIRED, text="it holds"):
    return Claim(text, Source.DERIVED, holds, "a number", kind)


def test_guarantees_for_real_data_are_told_as_they_are():
    problem = attention("exp")
    section = user_data.experiment(problem.A, problem.b, unit="exp")
    found = verdicts(section)
    assert not section.failed
    assert found["The Hessian at x̂ is positive definite in fact"] is Verdict.APPLIES
    assert Verdict.NOT_APPLICABLE in found.values()
    assert any("does not apply to x0 = 0" in finding for finding in section.findings)


def test_with_the_weight_that_is_asked_for_the_guarantee_applies(problem):
    asked = user_data.experiment(problem.A, problem.b)
    w = float(re.search(r"w ≥ (\S+) in every row", asked.findings[0])[1].replace("−", "-"))
    heavy = user_data.experiment(problem.A, problem.b, w=10 * w)
    (guarantee,) = [text for text in verdicts(heavy) if "is guaranteed" in text]
    assert verdicts(asked)[guarantee] is Verdict.NOT_APPLICABLE
    assert verdicts(heavy)[guarantee] is Verdict.APPLIES


def test_the_command_speaks_of_files(quick, files):
    result = run("verify", files / "A.npy", files / "b.npy", "--report", files / "r.html")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Your A and B")
    page = (files / "r.html").read_text("utf-8")
    assert "smallest eigenvalue" in page
    assert page.count("<h2") == 6


# --- the command -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (Kind.REQUIRED, 1, "4 of 5 required claims hold."),
        (Kind.STATED, 0, "4 of 4 required claims hold; claims that do not hold as stated: 1."),
    ],
)
def test_the_exit_status_is_of_what_has_to_hold(quick, monkeypatch, kind, status, words):
    section = Section("Wrong", "", [], [claim(False, kind)])
    monkeypatch.setattr(norms, "experiment", lambda seed: section)
    result = run("verify")
    assert result.exit_code == status
    assert kind.value[1] in result.stdout
    assert words in result.stdout


def test_a_wrong_theory_fails(monkeypatch):
    """A weight that is much too small is found out."""
    true = hessian_cases.weight_for
    monkeypatch.setattr(hessian_cases, "weight_for", lambda parts, goal: 0.01 * true(parts, goal))
    assert SMALL["decomposition"](0).failed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.npy", "b.npy"], "absent.npy"),
        (["A.npy", "b.npy", "--report", "A.npy"], "one of the inputs"),
        (["A.npy", "b.npy", "--report", "absent/r.html"], "absent"),
        (["A.npy", "A.npy"], "columns"),
    ],
)
def test_wrong_input_is_refused(quick, files, monkeypatch, arguments, words):
    monkeypatch.chdir(files)
    assert_refused(run("verify", *arguments), words)


@pytest.mark.parametrize("arguments", [["A.npy"], ["--unit", "exp"], ["--workers", "2"]])
def test_wrong_usage_has_exit_status_2(quick, arguments):
    result = run("verify", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_report_without_matplotlib_says_what_to_install(quick, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert_refused(run("verify", "--report", tmp_path / "r.html"), "dresoftmax[plot]")
    assert not (tmp_path / "r.html").exists()


# --- the report --------------------------------------------------------------------


class Page(HTMLParser):
    """What stands in a page, its tags checked to be closed in order."""

    VOID = frozenset({"br", "hr", "img", "link", "meta"})

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag == "img":
            self.images.append(values["src"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_whole_file(sections, tmp_path):
    write_report(tmp_path / "r.html", list(sections.values()), {"seed": "0"})
    text = (tmp_path / "r.html").read_text("utf-8")
    page = Page(text)
    pictures = sum(len(section.pictures) for section in sections.values())
    assert pictures
    assert len(page.images) == pictures
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert "http" not in text
    for section in sections.values():
        assert section.title in text


def test_text_is_no_markup(tmp_path):
    name = '<b>"A&B"</b>'
    picture = Picture(name, name, name, [Curve("c", [1.0, 2.0], [1.0, 2.0])])
    table = Table(name, (name,), [[name], [np.inf], [float("nan")], [2]])
    section = Section(name, name, [name], [claim(True, text=name)], [table], [picture])
    write_report(tmp_path / "r.html", [section], {name: name})
    text = (tmp_path / "r.html").read_text("utf-8")
    assert name not in text
    assert "&lt;b&gt;" in text
    Page(text)


def test_numbers_are_short():
    assert [number(x) for x in (1234567, 0.5, 1e-9, np.inf)] == [
        "1,234,567",
        "0.5",
        "1.00e−09",
        "∞",
    ]
