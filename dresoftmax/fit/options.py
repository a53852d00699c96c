"""How a fit is made: the options of `solve` that are not about the problem itself."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from dresoftmax.fit.checkpoint import Checkpoint
from dresoftmax.inputs.arguments import (
    check_callback,
    check_choice,
    check_count,
    check_number,
    check_path,
)
from dresoftmax.inputs.dataset import Dataset, check_start
from dresoftmax.model.loss import Loss
from dresoftmax.model.units import AnyUnit
from dresoftmax.optimize.history import Observer
from dresoftmax.utils.atomic_write import check_writable

__all__ = ["HESSIANS", "FitOptions"]

HESSIANS = ("auto", "exact", "leverage", "uniform", "countsketch")


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """What `solve` was asked for; see there.  `checked` makes one of what a user gives.

    `resumed` is a checkpoint to go on from; `statement` has the options that it must agree with.
    """

    x0: Any = None
    hessian: str = "auto"
    sketch_size: int | None = None
    tol: float = 1e-8
    max_iter: int = 100
    seed: int = 0
    callback: Observer | None = None
    progress: bool = False
    checkpoint: Path | None = None
    resumed: Checkpoint | None = None
    statement: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def checked(
        cls,
        *,
        unit: AnyUnit,
        loss: Loss,
        ridge: float,
        x0: Any = None,
        hessian: str = "auto",
        sketch_size: int | None = None,
        tol: float = 1e-8,
        max_iter: int = 100,
        seed: int | None = None,
        callback: Observer | None = None,
        progress: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        resume: str | PathLike[str] | None = None,
    ) -> FitOptions:
        """Return the options, or raise what `solve` raises."""
        check_callback(callback)
        written, read = check_path("checkpoint", checkpoint), check_path("resume", resume)
        if written is not None:
            check_writable(written)
        resumed = None if read is None else Checkpoint.load(read, unit, loss)
        if seed is None:
            seed = secrets.randbits(32) if resumed is None else resumed.options.get("seed")
        hessian, seed = check_choice("hessian", hessian, HESSIANS), check_count("seed", seed)
        if sketch_size is not None:
            sketch_size = check_count("sketch_size", sketch_size, 1)
        return cls(
            x0=x0,
            hessian=hessian,
            sketch_size=sketch_size,
            tol=check_number("tol", tol, positive=True),
            max_iter=check_count("max_iter", max_iter),
            seed=seed,
            callback=callback,
            progress=progress,
            checkpoint=written,
            resumed=resumed,
            statement={
                "unit": unit.name,
                "loss": loss.name,
                "hessian": hessian,
                "sketch_size": sketch_size,
                "ridge": ridge,
                "seed": seed,
            },
        )

    def identity(self, data: Dataset) -> dict[str, Any]:
        """Return what has to be the same if a checkpoint is resumed."""
        sizes = {"columns of A": data.d, "targets": data.targets}
        return {**self.statement, "w": data.scalar_w, **sizes}

    def starts(self, data: Dataset) -> Sequence[np.ndarray | None]:
        """Return x0 for each target."""
        return check_start(self.x0, data.d, data.targets)

    def check(self, data: Dataset) -> None:
        """Raise if the options do not suit the data."""
        self.starts(data)
        if self.resumed is not None:
            self.resumed.check_options(self.identity(data))
