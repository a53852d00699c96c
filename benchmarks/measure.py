"""What all suites share: the clock, the environment, and how rows become tables.

The machines are shared.  Times to be compared are therefore taken within one run, and
repeated.
"""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PACKAGES = ("dresoftmax", "numpy", "scipy", "numba", "dask", "distributed")


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def environment() -> Row:
    """Return the columns that every row of every table ends with."""
    columns: Row = {"cores": CORES, "machine": platform.machine()}
    columns["python"] = platform.python_version()
    return columns | {package: version(package) for package in PACKAGES}


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows, whose keys may differ, under all keys in order of appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def cell(value: object) -> str:
    """Return a value as tables show it."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def read_csv(path: Path) -> list[Row]:
    """Return the rows that `write_csv` wrote, with numbers as numbers."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> object:
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text or None


def write_markdown(rows: Sequence[Row], columns: Sequence[str], notes: str, path: Path) -> None:
    """Write the shown columns as a Markdown table, with notes beneath."""
    path.write_text(f"{markdown(rows, columns)}\n\n{notes}\n", encoding="utf-8")


def markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return the shown columns as a Markdown table."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(name)) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(rows: Sequence[Row], columns: Sequence[str], console: Console) -> None:
    """Print the shown columns."""
    table = Table(box=None, header_style="bold")
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in columns))
    console.print(table)
