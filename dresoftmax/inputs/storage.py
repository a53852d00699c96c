"""Arrays on disk → dask arrays whose tasks read their own rows.

Each task opens the file that it needs rows of, so a file must have the same path on all
workers.  Rows are read in whole multiples of the file's chunks, so that nothing is
decompressed twice.

Nothing here knows what the numbers are for.
"""

from __future__ import annotations

import math
import mmap
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np

from dresoftmax.inputs.dataframes import Names, to_array

__all__ = [
    "blocks_of_hdf5",
    "blocks_of_memmap",
    "blocks_of_parquet",
    "blocks_of_zarr",
    "converted",
    "rows_per_block",
    "stack",
]

BLOCK_BYTES = 48 * 2**20


def rows_per_block(
    shape: tuple[int, ...], itemsize: int, step: int = 1, workers: int | None = None
) -> int:
    """Return how many rows to read at a time: a multiple of `step`.

    Blocks have at most 48 MiB if `step` allows it.  Each of `workers` gets several, so that
    the work spreads evenly.
    """
    rows = BLOCK_BYTES // max(itemsize * math.prod(shape[1:]), 1)
    if workers is not None:
        rows = min(rows, -(-shape[0] // (4 * workers)))
    return max(step, rows // step * step)


def blocks_of_memmap(values: np.memmap, workers: int | None) -> da.Array | np.memmap:
    """Return a mapped file, or a part of one, as blocks of rows that open it again.

    The map stays as it is if no file holds its values: if changes stay in this process
    (mode "c"), or if the map has no file name.
    """
    buffer: Any = values
    while isinstance(buffer, np.ndarray):
        buffer = buffer.base
    if values.mode == "c" or values.filename is None or not isinstance(buffer, mmap.mmap):
        return values
    if values.mode != "r":
        values.flush()
    # The map begins at a page boundary; only the address of the rows tells where they begin.
    first = values.offset - values.offset % mmap.ALLOCATIONGRANULARITY
    begin = np.frombuffer(buffer, np.uint8).__array_interface__["data"][0]
    layout = {
        "offset": first + values.__array_interface__["data"][0] - begin,
        "strides": values.strides,
        "dtype": values.dtype,
    }
    path = str(Path(values.filename).resolve())
    rows = rows_per_block(values.shape, values.itemsize, workers=workers)
    read = partial(_mapped_rows, path, values.shape, layout)
    return _lazy(read, values.shape, values.dtype, rows)


def blocks_of_hdf5(path: str, key: str, dataset: Any, workers: int | None) -> da.Array:
    """Return an HDF5 dataset as blocks of rows, read from `key` in the file at `path`."""
    step = dataset.chunks[0] if dataset.chunks else 1
    rows = rows_per_block(dataset.shape, dataset.dtype.itemsize, step, workers)
    return _lazy(partial(_hdf5_rows, path, key), dataset.shape, dataset.dtype, rows)


def blocks_of_zarr(array: Any) -> da.Array | np.ndarray:
    """Return a zarr array as blocks, each with the rows of one chunk or one shard.

    An array in the memory of this process is read.
    """
    if type(array.store).__name__ == "MemoryStore":
        return np.asarray(array[...])
    rows = (array.shards or array.chunks or (1,))[0]
    return _lazy(partial(_zarr_rows, array), array.shape, array.dtype, rows)


def blocks_of_parquet(name: str, path: Path, workers: int | None) -> tuple[da.Array, Names]:
    """Return a Parquet file, or a directory of them, as blocks of whole row groups.

    An index that pandas has stored beside the columns is left out.
    """
    from pyarrow.dataset import dataset

    found = dataset(path, format="parquet")
    index = (found.schema.pandas_metadata or {}).get("index_columns", ())
    columns = [column for column in found.schema.names if column not in index]
    meta, names = to_array(name, found.schema.empty_table().select(columns))
    files = [
        (fragment.path, [(group.id, group.num_rows) for group in fragment.row_groups])
        for fragment in found.get_fragments()
    ]
    n = sum(rows for _, groups in files for _, rows in groups)
    most = rows_per_block((n, meta.shape[1]), meta.itemsize, workers=workers)
    read = dask.delayed(_row_groups, pure=False)
    blocks, lengths = [], []
    for file, groups in files:
        while groups:
            take = max(1, sum(total <= most for total in np.cumsum([rows for _, rows in groups])))
            ids, rows = zip(*groups[:take], strict=True)
            blocks.append(read(file, ids, columns))
            lengths.append(sum(rows))
            groups = groups[take:]
    if not blocks:
        return meta, names
    return stack(name, blocks, lengths, meta, names), names


def stack(
    name: str, blocks: Sequence[Any], lengths: Sequence[float], meta: Any, names: Names
) -> da.Array:
    """Return delayed blocks of rows as one dask array.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    blocks : sequence of Delayed
        Each computes a value that `to_array` takes.
    lengths : sequence of float
        The number of rows of each block; NaN if it is not known.
    meta : array
        One of the blocks, without its rows.
    names : tuple of str or None
        The columns that each block must have.
    """
    convert = dask.delayed(converted, pure=False)
    parts = [
        da.from_delayed(
            convert(name, block, i, meta.shape[1:], names), (rows, *meta.shape[1:]), meta=meta
        )
        for i, (block, rows) in enumerate(zip(blocks, lengths, strict=True))
    ]
    return da.concatenate(parts, axis=0, allow_unknown_chunksizes=True)


def converted(name: str, block: Any, index: int, shape: tuple[int, ...], names: Names) -> Any:
    """Return the array that a block of rows holds, or raise if its columns differ."""
    rows, found = to_array(name, block, f" of block {index}")
    if found != names:
        raise ValueError(
            f"block {index} of {name} has the columns {found}, but the first one has {names}"
        )
    if rows.shape[1:] != shape:
        raise ValueError(
            f"block {index} of {name} has shape {rows.shape}, but the rows of the first one have "
            f"shape {shape}"
        )
    return rows


def _lazy(
    read: Callable[..., np.ndarray], shape: tuple[int, ...], dtype: np.dtype, rows: int
) -> da.Array:
    """Return ``read(rows)`` over blocks of `rows` rows as a dask array.

    Its name is new each time, since a file may have changed since it was last read.
    """
    return da.map_blocks(
        partial(_block, read),
        name=f"rows-{uuid.uuid4().hex}",
        chunks=da.core.normalize_chunks((rows, *shape[1:]), shape),
        meta=np.empty((0,) * len(shape), dtype),
    )


def _block(read: Callable[[slice], np.ndarray], *, block_info: Any) -> np.ndarray:
    (start, stop), *_ = block_info[None]["array-location"]
    return read(slice(start, stop))


def _mapped_rows(
    path: str, shape: tuple[int, ...], layout: dict[str, Any], rows: slice
) -> np.ndarray:
    file = np.memmap(path, np.uint8, mode="r")
    return np.array(np.ndarray(shape, buffer=file, **layout)[rows])


def _hdf5_rows(path: str, key: str, rows: slice) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        return file[key][rows]


def _zarr_rows(array: Any, rows: slice) -> np.ndarray:
    return np.asarray(array[rows])


def _row_groups(path: str, ids: Sequence[int], columns: Sequence[str]) -> Any:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        return file.read_row_groups(list(ids), list(columns))
