"""Files that a command writes: what is checked before any work, and a result as .npz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.inputs.paths import file_of
from dresoftmax.result import SolveResult
from dresoftmax.utils.atomic_write import atomic_write, check_writable

if TYPE_CHECKING:
    from dresoftmax.result import JointResult

__all__ = ["check_outputs", "write_result"]


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[str | None]) -> None:
    """Raise if an output cannot be written, or is one of the inputs.

    None stands for a file that was not given.
    """
    read = [file_of(path).resolve() for path in inputs if path is not None]
    for name, path in outputs.items():
        if path is not None:
            if path.resolve() in read:
                raise ValueError(f"the {name} {path} is one of the inputs")
            check_writable(path)


def write_result(path: Path, result: SolveResult | JointResult) -> None:
    """Write a result as .npz, whole or not at all.

    Each field of a `SolveResult` is an array of its name, those of several targets
    stacked along the last axis, with ``target_names`` beside them.  Status and unit are
    their names, and each column of the history is an array ``history_<name>``.  A field that is
    None is left out.  ``numpy.load`` reads it without pickle.
    """
    names = {f.name for f in fields(SolveResult)} - {"history", "status", "unit"}
    first = result if isinstance(result, SolveResult) else result[0]
    if isinstance(result, SolveResult):
        status: Any = result.status.name
    else:
        status = [each.name for each in result.status]
        names.add("target_names")
    # What is the same for all targets is taken from the first.
    values = {
        name: getattr(result if hasattr(result, name) else first, name) for name in sorted(names)
    }
    columns: dict[str, Any] = {
        name: np.asarray(value) for name, value in values.items() if value is not None
    }
    columns["status"] = np.asarray(status)
    columns["unit"] = np.asarray(getattr(first.unit, "name", first.unit))
    if result.history:
        for f in fields(result.history[0]):
            column = [getattr(record, f.name) for record in result.history]
            columns[f"history_{f.name}"] = np.asarray(column)
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **columns)
