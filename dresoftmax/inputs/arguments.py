"""Arguments → values known to be sound, before any work is done.

All that can be told from types, shapes and what lies in this process is
checked here.  What can only be told where the blocks lie (NaN in b or w of a
dask array, true dtypes) is checked when they are made; A itself is checked in
its first read, which has to be made anyway.
"""

from __future__ import annotations

import math
import operator
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from dresoftmax.blocks.base import check_values, storage_dtype
from dresoftmax.inputs.containers import unpack
from dresoftmax.inputs.dataframes import Names, is_a, to_array
from dresoftmax.model.units import UNITS, AnyUnit, Unit

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "Dataset",
    "check_callback",
    "check_choice",
    "check_client",
    "check_count",
    "check_dataset",
    "check_engine",
    "check_flag",
    "check_lengths",
    "check_number",
    "check_path",
    "check_persist",
    "check_start",
    "check_unit",
]

# Where a user's unit is tried, and how far apart its slopes are taken.
_PROBES, _STEP = np.array([-1.37, -0.41, 0.23, 1.19]), 1e-5
_UNKNOWN_COLUMNS = (
    "{name} has an unknown number of columns; call {name}.compute_chunk_sizes() first"
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A, b and w in containers of known kinds, with shapes that agree.

    `A` is a dask, NumPy or sparse array, or `RayRows`, of shape (n, d); `b` a dask or NumPy
    array of shape (n,) or (n, k); `w` None, a float, or an array of shape (n,);
    `names` are those of the columns of A and `target_names` those of b, where they
    have any.
    """

    A: Any
    b: Any
    w: Any
    names: Names
    target_names: Names

    @property
    def d(self) -> int:
        """Columns of A."""
        return int(self.A.shape[1])

    @property
    def targets(self) -> int | None:
        """Columns of b, None where it has one dimension."""
        return int(self.b.shape[1]) if self.b.ndim == 2 else None


def check_dataset(
    A: Any, b: Any, w: Any, client: Client | None = None, *, on_ray: bool = False
) -> Dataset:
    """Return the data of the problem, or raise TypeError, ValueError or OSError."""
    open_engine = partial(unpack, client=client, on_ray=on_ray)
    A, names = open_engine("A", A)
    A = _check_matrix(A)
    b, target_names = open_engine("b", b)
    b = _check_vector("b", b, columns=True)
    if w is not None and not isinstance(w, str) and _is_scalar(w):
        w = check_number("w", w)
    elif w is not None:
        w = _check_vector("w", open_engine("w", w)[0])
    data = Dataset(A, b, w, names, target_names if b.ndim == 2 else None)
    check_lengths(data)
    return data


def check_lengths(data: Dataset) -> None:
    """Raise where the numbers of rows differ, as far as they are known, or there are none."""
    n, d = data.A.shape
    if n == 0 or d == 0:
        raise ValueError(f"A has shape {(n, d)}; at least one row and one column are needed")
    for name, vector in (("b", data.b), ("w", data.w)):
        length = vector.shape[0] if hasattr(vector, "shape") else n
        if length != n and not math.isnan(length) and not math.isnan(n):
            advice = "pass a value for each row of A"
            if vector.ndim == 2 and vector.shape[1] == n:
                advice = f"pass {name}.T, with a column for each target"
            raise ValueError(f"{name} has length {length}, but A has {n} rows; {advice}")
    if data.targets == 0:
        raise ValueError(f"b has shape {data.b.shape}; at least one target, a column, is needed")


def check_start(x0: Any, d: int, targets: int | None) -> list[np.ndarray | None]:
    """Return x0 for each target as a finite float64 vector of length d, or raise."""
    count = 1 if targets is None else targets
    if x0 is None:
        return [None] * count
    if isinstance(x0, da.Array):
        raise TypeError("x0 is a dask array; pass a NumPy array of length d (use .compute())")
    x = _check_vector("x0", to_array("x0", x0)[0], columns=targets is not None)
    x = x.astype(np.float64)
    if len(x) != d:
        raise ValueError(f"x0 has length {len(x)}, but A has {d} columns; pass one value for each")
    if x.ndim == 1:
        return [x] * count
    if x.shape[1] != count:
        raise ValueError(f"x0 has {x.shape[1]} columns, but b has {count}; pass one for each")
    return list(np.ascontiguousarray(x.T))


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` where it is one of `choices`, or raise."""
    choices = list(choices)
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")
    return str(value)


def check_unit(unit: Any) -> AnyUnit:
    """Return a unit by its name, or a user's own where it compiles and its slopes are right."""
    if not isinstance(unit, Unit):
        return UNITS[check_choice("unit", unit, UNITS)]
    try:
        values = unit.values(_PROBES)
        above, below = unit.values(_PROBES + _STEP), unit.values(_PROBES - _STEP)
    except Exception as error:  # Numba raises what it meets
        reason = str(error).strip().splitlines()[0]
        raise TypeError(
            f"unit {unit.name!r} cannot be compiled by Numba: {reason}; its functions take a "
            "float and return one, by arithmetic and the module math"
        ) from error
    slopes = (above - below)[:2] / (2.0 * _STEP)
    for name, of, claimed, slope in zip(
        ("du", "d2u"), ("u", "du"), values[1:], slopes, strict=True
    ):
        off = np.abs(claimed - slope) > 1e-5 * np.abs(values).max()
        if off.any():
            i = int(np.argmax(off))
            raise ValueError(
                f"unit {unit.name!r} has {name}({_PROBES[i]}) = {claimed[i]:.6g}, but the slope of "
                f"{of} there is {slope[i]:.6g}; pass the derivative of {of} as {name}"
            )
    return unit


def check_number(name: str, value: Any, *, positive: bool = False) -> float:
    """Return a finite number ≥ 0, or > 0 where `positive`; else raise."""
    if isinstance(value, bool | np.bool_ | str) or not _is_scalar(value):
        raise TypeError(f"{name} is {value!r}; a number is needed")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}; a number is needed") from None
    if not math.isfinite(number) or number < 0.0 or (positive and number == 0.0):
        sign = "negative: " if number < 0.0 else ""
        bound = "> 0" if positive else ">= 0"
        raise ValueError(f"{name} is {sign}{value!r}; it must be finite and {bound}")
    return number


def check_count(name: str, value: Any, least: int = 0) -> int:
    """Return an integer ≥ `least`, or raise."""
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; an integer is needed") from None
    if isinstance(value, bool | np.bool_) or count < least:
        raise ValueError(f"{name} is {value!r}; an integer >= {least} is needed")
    return count


def check_callback(callback: Any) -> None:
    """Raise where `callback` is neither None nor callable."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; pass a function of one record")


def check_path(name: str, path: Any) -> Path | None:
    """Return a path of a file, or None, or raise."""
    if path is None:
        return None
    try:
        return Path(path)
    except TypeError:
        raise TypeError(f"{name} is {path!r}; pass the path of a file") from None


def check_engine(engine: Any, client: Any, **data: Any) -> bool:
    """Return whether the rows are to lie on Ray, or raise where they cannot."""
    check_choice("engine", engine, ("auto", "ray"))
    reasons = [f"{name} is a Ray Dataset" for name in data if is_a(data[name], "ray", "Dataset")]
    if engine == "ray":
        reasons.append('engine is "ray"')
    if not reasons:
        return False
    if client is not None:
        raise ValueError(
            f"{reasons[0]}, but client is a Dask client; leave client out to solve on Ray"
        )
    if find_spec("ray") is None:
        raise ValueError(f"{reasons[0]}; this needs ray: python -m pip install 'dresoftmax[ray]'")
    return True


def check_client(client: Any) -> None:
    """Raise where `client` is not None and no Dask client, or this is its event loop."""
    if client is None:
        return
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(f"client is {client!r}; pass a distributed.Client, for example Client()")
    if client.asynchronous:
        raise TypeError(
            "client is asynchronous, and solve would stop the event loop that it runs in; call "
            "await asyncio.to_thread(dresoftmax.solve, A, b, client=client)"
        )


def check_flag(name: str, value: Any) -> None:
    """Raise where `value` is not a bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; pass True or False")


def check_persist(persist: Any) -> None:
    """Raise where `persist` is neither None nor a bool."""
    if persist is not None and not isinstance(persist, bool):
        raise TypeError(f"persist is {persist!r}; pass True, False, or None for what fits")


def _is_scalar(value: Any) -> bool:
    return np.isscalar(value) or (isinstance(value, np.ndarray) and value.ndim == 0)


def _check_matrix(A: Any) -> Any:
    if A.ndim != 2:
        raise ValueError(
            f"A has {A.ndim} dimension(s), shape {A.shape}; two are needed, rows by columns"
        )
    if math.isnan(A.shape[1]):
        raise ValueError(_UNKNOWN_COLUMNS.format(name="A"))
    storage_dtype(A.dtype)
    return A


def _check_vector(name: str, values: Any, *, columns: bool = False) -> Any:
    """Return values of shape (n,), or where `columns` also of shape (n, k); or raise."""
    if is_a(values, "dresoftmax", "RayRows"):
        values = values.collect()
    lazy = isinstance(values, da.Array)
    if not isinstance(values._meta if lazy else values, np.ndarray):
        raise TypeError(f"{name} is a sparse array; pass a dense vector")
    if values.ndim != 1 and not (columns and values.ndim == 2):
        also = ", or two, one column for each target," if columns else ""
        raise ValueError(f"{name} has shape {values.shape}; one dimension{also} is needed")
    storage_dtype(values.dtype, name)
    if not lazy:
        check_values(name, values)
        return values
    columns_of_each = values.shape[1:]
    if any(map(math.isnan, columns_of_each)):
        raise ValueError(_UNKNOWN_COLUMNS.format(name=name))
    check = partial(_check_block, name, columns_of_each)
    return values.map_blocks(check, meta=values._meta, name=f"dresoftmax-check-{uuid.uuid4().hex}")


def _check_block(name: str, columns: tuple[int, ...], block: Any) -> np.ndarray:
    """Return a block of b or w as rows of real numbers of the shape that was declared."""
    rows, _ = to_array(name, block)
    if not isinstance(rows, np.ndarray):
        raise TypeError(f"a block of {name} is sparse; make it dense")
    storage_dtype(rows.dtype, name)
    if rows.shape[1:] != columns or rows.ndim == 0:
        declared = ", ".join(map(str, ("rows", *columns)))
        raise ValueError(
            f"a block of {name} has shape {rows.shape}, but the dask array says ({declared}); "
            f"make {name} an array of its true shape"
        )
    return rows
