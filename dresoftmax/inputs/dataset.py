"""A, b, w and x0 → arrays of known kinds whose shapes agree.

Types, shapes and the vectors in this process are checked here.  What only the blocks show
(NaN in b or w of a dask array, true dtypes) is checked when they are made.  A itself is
checked in its first read, which is needed anyway.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from dresoftmax.blocks.base import check_values, storage_dtype
from dresoftmax.inputs.arguments import check_number, is_scalar
from dresoftmax.inputs.containers import RemoteRows, unpack
from dresoftmax.inputs.dataframes import Names, to_array

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Dataset", "check_dataset", "check_lengths", "check_start"]

_UNKNOWN_COLUMNS = (
    "{name} has an unknown number of columns; call {name}.compute_chunk_sizes() first"
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A, b and w in containers of known kinds, with shapes that agree.

    `A` is a dask, NumPy or sparse array, or `RayRows`, of shape (n, d); `b` a dask or NumPy
    array of shape (n,) or (n, k); `w` None, a float, or an array of shape (n,);
    `names` are those of the columns of A and `target_names` those of b, if they have any.
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
    def scalar_w(self) -> float | str | None:
        """The number w, None if there is none, or "rows" if each row has its own."""
        return self.w if self.w is None or isinstance(self.w, float) else "rows"

    @property
    def targets(self) -> int | None:
        """Columns of b, None if it has one dimension."""
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
    if w is not None and not isinstance(w, str) and is_scalar(w):
        w = check_number("w", w)
    elif w is not None:
        w = _check_vector("w", open_engine("w", w)[0])
    data = Dataset(A, b, w, names, target_names if b.ndim == 2 else None)
    check_lengths(data)
    return data


def check_lengths(data: Dataset) -> None:
    """Raise if known numbers of rows differ, or if there are no rows, columns or targets."""
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
        raise ValueError(f"b has shape {data.b.shape}; at least one column (target) is needed")


def check_start(x0: Any, d: int, targets: int | None) -> list[np.ndarray | None]:
    """Return x0 for each target as a finite float64 vector of length d, or None; else raise."""
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
    """Return values of shape (n,), or also (n, k) if `columns`; else raise."""
    if isinstance(values, RemoteRows):
        values = values.collect()
    lazy = isinstance(values, da.Array)
    if not isinstance(values._meta if lazy else values, np.ndarray):
        raise TypeError(f"{name} is a sparse array; pass a dense vector")
    if values.ndim != 1 and not (columns and values.ndim == 2):
        also = ", or two with a column for each target," if columns else ""
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
    """Return a block of b or w as an array of real numbers with the declared columns."""
    rows, _ = to_array(name, block)
    if not isinstance(rows, np.ndarray):
        raise TypeError(f"a block of {name} is sparse; make it dense")
    storage_dtype(rows.dtype, name)
    if rows.shape[1:] != columns or rows.ndim == 0:
        declared = ", ".join(map(str, ("rows", *columns)))
        raise ValueError(
            f"a block of {name} has shape {rows.shape}, but the dask array declares "
            f"({declared}); make {name} an array of its true shape"
        )
    return rows
