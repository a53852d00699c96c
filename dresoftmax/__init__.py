"""Distributed approximate Newton solver for the regression of ResNet and softmax.

``dresoftmax.solve(A, b)`` minimises

    ½‖⟨exp(Ax)+Ax, 1⟩⁻¹(exp(Ax)+Ax) − b‖² + ½‖diag(w)Ax‖² + ½λ‖x‖²

over a row-partitioned Dask array, or over one that fits in this process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dresoftmax import datasets, launch, theory
    from dresoftmax.result import IterationRecord, JointResult, SolveResult, Status
    from dresoftmax.solver import solve
    from dresoftmax.units import Unit

__version__ = "0.1.0"

__all__ = [
    "IterationRecord",
    "JointResult",
    "SolveResult",
    "Status",
    "Unit",
    "__version__",
    "datasets",
    "launch",
    "solve",
    "theory",
]

_HOME = {
    "IterationRecord": "result",
    "JointResult": "result",
    "SolveResult": "result",
    "Status": "result",
    "Unit": "units",
    "solve": "solver",
}


def __getattr__(name: str) -> Any:
    # Public names are imported when they are first used: Dask and SciPy take long.
    if name in ("datasets", "launch", "theory"):
        return import_module(f"dresoftmax.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"dresoftmax.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
