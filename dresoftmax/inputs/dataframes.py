"""Data in this process → an array of rows, and the names of its columns.

Arrays stay as they are.  Tables of pandas, Polars and Arrow store columns.  They are copied
into rows of one float type, never object: the narrowest that `storage_dtype` allows for all
columns.  A missing value in a table is an error that names the column.  NaN counts as a
value, and is found when A is read.  The index of a pandas object is ignored.

The same function runs on a worker, over the blocks of a lazy container.  Objects of other
packages are recognized by the module of their type, so that no package is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from dresoftmax.blocks.base import storage_dtype

__all__ = ["Names", "is_a", "names_of", "to_array"]

Names = tuple[str, ...] | None

# Types that have the same name in NumPy.
NUMBERS = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
# Rows that are copied at a time, so that they stay in cache.
TILE = 4096


def is_a(values: Any, package: str, *names: str) -> bool:
    """Whether `values` is an instance of a class in `package` with one of these names."""
    return any(
        cls.__name__ in names and cls.__module__.partition(".")[0] == package
        for cls in type(values).__mro__
    )


def names_of(name: str, labels: Sequence[Any]) -> Names:
    """Return the labels of columns if all are strings, else None.

    Raises
    ------
    ValueError
        If two columns have the same name.
    """
    if not all(isinstance(label, str) for label in labels):
        return None
    names = tuple(map(str, labels))
    for i, label in enumerate(names):
        if label in names[:i]:
            raise ValueError(f"{name} has more than one column named {label!r}; rename them")
    return names or None


def to_array(name: str, values: Any, place: str = "") -> tuple[Any, Names]:
    """Return rows as a NumPy, SciPy CSR or `sparse` array, and their columns' names.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    values : array_like, sparse array, table, or column of a table
    place : str
        The block that rows are counted from in messages, as in " of block 0".

    Raises
    ------
    TypeError, ValueError
        If the type of `values` is not supported, or if `values` is masked, not real, or
        has missing values.
    """
    if values is None:
        raise TypeError(f"{name} is None; pass an array")
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array; fill its masked entries, or drop such rows, and pass "
            "a plain array"
        )
    if isinstance(values, np.ndarray):
        return (np.asarray(values) if isinstance(values, np.matrix) else values), None
    if sp.issparse(values):
        # Not every SciPy format can be sliced by rows.
        return (values.tocsr() if values.ndim == 2 else values), None
    if is_a(values, "sparse", "COO", "GCXS"):
        return values, None
    if is_a(values, "polars", "LazyFrame"):
        values = values.collect()
    if is_a(values, "pandas", "DataFrame"):
        return _rows_of_pandas(name, values, place)
    if is_a(values, "polars", "DataFrame"):
        return _rows(name, values.columns, values.get_columns(), len(values), place)
    if is_a(values, "pyarrow", "Table", "RecordBatch"):
        return _rows(name, values.schema.names, values.columns, values.num_rows, place)
    if _is_column(values):
        return _column(name, values, place), None
    known = isinstance(values, list | tuple) or hasattr(values, "__array__")
    if not known or is_a(values, "sparse", "SparseArray"):
        raise TypeError(
            f"{name} is of type {type(values).__name__}; pass an array, a table, a path or a list "
            "of delayed blocks (see help(dresoftmax.solve))"
        )
    try:
        return np.asarray(values), None
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is not an array: {error}") from error


def _is_column(values: Any) -> bool:
    return (
        is_a(values, "pandas", "Series")
        or is_a(values, "polars", "Series")
        or is_a(values, "pyarrow", "Array", "ChunkedArray")
    )


def _rows_of_pandas(name: str, table: Any, place: str) -> tuple[Any, Names]:
    labels = list(table.columns)
    if labels and all(is_a(dtype, "pandas", "SparseDtype") for dtype in table.dtypes):
        try:
            return sp.csr_array(table.sparse.to_coo()), names_of(name, labels)
        except ValueError as error:  # the fill value is not zero
            raise ValueError(f"{name} has sparse columns that cannot be used: {error}") from error
    columns = [table.iloc[:, j] for j in range(len(labels))]
    return _rows(name, labels, columns, len(table), place)


def _rows(
    name: str, labels: Sequence[Any], columns: Sequence[Any], n: int, place: str
) -> tuple[np.ndarray, Names]:
    """Copy columns into rows of their common float type."""
    names = names_of(name, labels)
    arrays = [
        _column(name, column, place, f" in column {label!r}")
        for label, column in zip(labels, columns, strict=True)
    ]
    dtypes = [storage_dtype(array.dtype) for array in arrays]
    rows = np.empty((n, len(arrays)), np.result_type(*dtypes) if dtypes else np.float64)
    for start in range(0, n, TILE):
        tile = slice(start, start + TILE)
        for j, array in enumerate(arrays):
            rows[tile, j] = array[tile]
    return rows, names


def _column(name: str, column: Any, place: str, where: str = "") -> np.ndarray:
    """Return one column as a NumPy array of real numbers, without a copy if possible."""
    pandas = is_a(column, "pandas", "Series")
    kind = column.dtype if hasattr(column, "dtype") else column.type  # Arrow's name for it
    dtype = _pandas_dtype(kind) if pandas else _dtype_by_name(str(kind))
    if dtype.kind not in "fiub":
        raise TypeError(
            f"{name} has dtype {kind}{where}; real numbers are needed, so convert or drop it"
        )
    # NumPy's own types have only NaN, which counts as a value.
    nullable = not isinstance(kind, np.dtype) and not is_a(kind, "pandas", "SparseDtype")
    absent = np.asarray(column.isna() if pandas else column.is_null())
    if nullable and absent.any():
        raise ValueError(
            f"{name} has missing values{where}: the first one is in row {int(np.argmax(absent))}"
            f"{place}; remove or replace such rows"
        )
    if pandas:
        return column.to_numpy(dtype)
    options = {"zero_copy_only": False} if is_a(column, "pyarrow", "Array") else {}
    return column.to_numpy(**options)


def _pandas_dtype(kind: Any) -> np.dtype:
    """Return the NumPy type of the numbers in a pandas column; object if there is none."""
    if isinstance(kind, np.dtype):
        return kind
    # Sparse types have `subtype`; nullable and Arrow-backed types have `numpy_dtype`.
    attribute = "subtype" if is_a(kind, "pandas", "SparseDtype") else "numpy_dtype"
    return np.dtype(getattr(kind, attribute, object))


def _dtype_by_name(kind: str) -> np.dtype:
    """Return the NumPy type of the numbers in a Polars or Arrow column; object if none."""
    spelt = {"boolean": "bool", "halffloat": "float16", "float": "float32", "double": "float64"}
    name = spelt.get(kind.lower(), kind.lower())
    return np.dtype(name if name in NUMBERS else object)
