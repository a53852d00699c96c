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
    from dresoftmax.inference.covariance import covariance
    from dresoftmax.inference.summary import Covariance
    from dresoftmax.model.units import Unit
    from dresoftmax.result import IterationRecord, JointResult, SolveResult, Status
    from dresoftmax.solver import solve

__version__ = "0.1.0"

__all__ = [
    "Covariance",
    "IterationRecord",
    "JointResult",
    "SolveResult",
    "Status",
    "Unit",
    "__version__",
    "covariance",
    "datasets",
    "launch",
    "solve",
    "theory",
]

_HOME = {
    "Covariance": "inference.summary",
    "IterationRecord": "result",
    "JointResult": "result",
    "SolveResult": "result",
    "Status": "result",
    "Unit": "model.units",
    "covariance": "inference.covariance",
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
