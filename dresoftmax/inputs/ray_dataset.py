"""Ray Datasets → rows in Ray's object store, in the order of the dataset.

Blocks are converted from Arrow tables.  A table has columns of numbers, or one column of
tensors of the same shape, each of which is a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from dresoftmax.engines.ray import get
from dresoftmax.inputs.dataframes import Names, is_a, to_array
from dresoftmax.inputs.storage import converted

__all__ = ["RayRows", "open_dataset"]


@dataclass(frozen=True, slots=True)
class RayRows:
    """Rows that lie in Ray's object store, with the attributes of a dask array.

    Attributes
    ----------
    name : str
        The argument's name, for messages.
    tables : tuple of ObjectRef
        Arrow tables, none of them empty.
    lengths : tuple of int
        The number of rows of each table.
    _meta : ndarray
        An array of the same type and columns, without rows.
    names : tuple of str or None
        The names of the columns.
    """

    name: str
    tables: tuple[Any, ...]
    lengths: tuple[int, ...]
    _meta: np.ndarray
    names: Names

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The rows of each table, and all columns."""
        return (self.lengths, *((columns,) for columns in self._meta.shape[1:]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of rows and of columns."""
        return tuple(map(sum, self.chunks))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self._meta.ndim

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return self._meta.dtype

    def rows(self, index: int, table: Any) -> Any:
        """Return a table that a task has received as an array."""
        return converted(self.name, _tensors(table), index, self._meta.shape[1:], self.names)

    def collect(self) -> np.ndarray:
        """Return all rows in this process; a single named column becomes a vector."""
        like = self.without_tables()
        parts = [_rows.remote(like, i, table) for i, table in enumerate(self.tables)]
        whole = np.concatenate(get(parts))
        return whole[:, 0] if self.names and self.shape[1:] == (1,) else whole

    def without_tables(self) -> RayRows:
        """Return a copy without the tables, which is all that tasks need."""
        return replace(self, tables=(), lengths=())


def open_dataset(name: str, dataset: Any) -> tuple[RayRows, Names]:
    """Compute a Ray Dataset, and return its rows and the names of their columns."""
    with _in_order(dataset):
        tables = dataset.to_arrow_refs()
    lengths = get([_length.remote(table) for table in tables])
    some = [(table, rows) for table, rows in zip(tables, lengths, strict=True) if rows]
    if not some:
        raise ValueError(f"{name} is a Ray Dataset without rows; at least one row is needed")
    tables, lengths = zip(*some, strict=True)
    meta, names = get(_head.remote(name, tables[0]))
    return RayRows(name, tables, lengths, meta, names), names


@contextmanager
def _in_order(dataset: Any) -> Iterator[None]:
    """Make Ray keep the order of the rows; by default it may not."""
    options = dataset.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        yield
    finally:
        options.preserve_order = before


def _tensors(table: Any) -> Any:
    """Return a table's only column of tensors as one array, and other tables as they are."""
    from ray.data.block import BlockAccessor

    if table.num_columns != 1 or not is_a(table.schema.types[0], "pyarrow", "BaseExtensionType"):
        return table
    (column,) = table.schema.names
    return BlockAccessor.for_block(table).to_numpy(column)


def _rows_in(table: Any) -> int:
    return int(table.num_rows)


def _head_of(name: str, table: Any) -> tuple[Any, Names]:
    rows, names = to_array(name, _tensors(table[:1]), " of block 0")
    return rows[:0], names


_length = ray.remote(_rows_in)
_head = ray.remote(_head_of)
_rows = ray.remote(RayRows.rows)
