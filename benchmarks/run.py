"""Measure: run the suites, print their tables, write them with their pictures.

    python benchmarks/run.py [--full] [--only NAME] [--attention FOLDER] [--output FOLDER]

A suite is a module beside this one with ``measure(full)``, which returns rows.  It may
take a folder of attention data as well, name the columns to show (``SHOWN``), say in
words how it went (``summary(rows)``), and draw (``draw(rows, path)``).
"""

from __future__ import annotations

import argparse
import inspect
import time
from importlib import import_module
from pathlib import Path

from measure import environment, show, write_csv, write_markdown
from rich.console import Console

SUITES = (
    "startup", "one_read", "cluster_read", "reads", "peers", "growth", "streaming",
    "targets", "faults", "cost_model", "intervals", "fit", "recovery", "other_units",
)  # fmt: skip
# Wide enough for the tables, also if the output is not a terminal.
WIDTH = 180


def run_suite(
    name: str, full: bool, attention: Path | None, output: Path, console: Console
) -> None:
    """Run one suite, print its table, and write ``NAME.csv``, ``NAME.md`` and ``NAME.png``."""
    suite = import_module(name)
    console.rule(name)
    began = time.perf_counter()
    takes_folder = len(inspect.signature(suite.measure).parameters) > 1
    measured = suite.measure(full, attention) if takes_folder else suite.measure(full)
    seconds = time.perf_counter() - began

    about = environment()
    rows = [row | {"full": full} | about for row in measured]
    columns = getattr(suite, "SHOWN", None) or list(dict.fromkeys(k for r in measured for k in r))
    words = [*suite.summary(rows)] if hasattr(suite, "summary") else []
    about_words = ", ".join(f"{key} {value}" for key, value in about.items())
    show(rows, columns, console)
    console.print(*words, f"{name}: {seconds:.0f} s; {about_words}", sep="\n", highlight=False)

    write_csv(rows, output / f"{name}.csv")
    notes = "\n".join(f"- {line}" for line in [*words, about_words])
    write_markdown(rows, columns, notes, output / f"{name}.md")
    if hasattr(suite, "draw"):
        suite.draw(rows, output / f"{name}.png")


def main() -> None:
    """Run all suites, or the one that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the whole, not a short run")
    parser.add_argument("--only", choices=SUITES, metavar="NAME", help=f"one of {SUITES}")
    parser.add_argument("--attention", type=Path, help="folder of keys_*.npy and queries_*.npy")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    console = Console(width=WIDTH)
    for name in [options.only] if options.only else SUITES:
        run_suite(name, options.full, options.attention, options.output, console)
    console.print(f"written to {options.output}", highlight=False)


# Processes that suites start import this file.
if __name__ == "__main__":
    main()
