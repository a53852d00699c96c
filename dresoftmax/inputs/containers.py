"""Containers of A, b or w → arrays that can be cut into blocks of rows.

    in this process     NumPy, SciPy sparse, `sparse`; tables of pandas, Polars, Arrow
    in blocks           dask arrays and data frames, lists of delayed blocks
    on Ray              Ray Datasets
    on disk             memory maps, zarr, HDF5, xarray over any of them, paths

become an ndarray, a CSR or `sparse` array, `RayRows`, or a dask array with all columns in
one chunk.  The names of the columns are kept, if there are any.  Data are read here only if
necessary; lazy data are checked where and when their blocks are made.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import dask
import dask.array as da
import numpy as np
import scipy.sparse as sp

from dresoftmax.blocks.csr import as_scipy
from dresoftmax.inputs.dataframes import Names, is_a, names_of, to_array
from dresoftmax.inputs.paths import open_path
from dresoftmax.inputs.storage import (
    blocks_of_hdf5,
    blocks_of_memmap,
    blocks_of_zarr,
    rows_per_block,
    stack,
)

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["RemoteRows", "unpack"]


@runtime_checkable
class RemoteRows(Protocol):
    """Rows that another engine holds, and that can be collected in this process."""

    def collect(self) -> np.ndarray:
        """Return all rows in this process."""


def unpack(
    name: str, values: Any, client: Client | None = None, *, on_ray: bool = False
) -> tuple[Any, Names]:
    """Return the array that `values` holds, and the names of its columns if it has any.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    values : Any
        One of the containers named in `dresoftmax.solve`.
    client : distributed.Client or None
        The client whose workers will hold the rows, and read memory maps themselves; None
        for this process.
    on_ray : bool
        Whether Ray will hold the rows; its tasks then read memory maps themselves.

    Returns
    -------
    array : ndarray, csr_array, COO, GCXS, RayRows or dask.array.Array
    names : tuple of str or None

    Raises
    ------
    TypeError, ValueError, OSError
        If the container is not supported.  The message says what was found, and what to do.
    """
    names: Names = None
    workers = partial(_workers, client, on_ray)
    if isinstance(values, str | os.PathLike):
        values, names = open_path(name, os.fspath(values), workers())
    elif is_a(values, "xarray", "DataArray"):
        values, names = _open_xarray(name, values, workers())
    if isinstance(values, da.Array):
        return _merge_columns(name, values), names
    if is_a(values, "dask", "DataFrame", "Series"):
        return _blocks_of_frame(name, values)
    if isinstance(values, list | tuple) and values and all(map(_is_delayed, values)):
        with nullcontext() if client is None else client.as_current():
            return _blocks_of_delayed(name, values)
    if is_a(values, "ray", "Dataset"):
        from dresoftmax.inputs.ray_dataset import open_dataset

        return open_dataset(name, values)
    if is_a(values, "zarr", "Array") or is_a(values, "h5py", "Dataset"):
        if not values.shape:
            raise ValueError(f"{name} holds a single number; an array of rows is needed")
        if is_a(values, "zarr", "Array"):
            return blocks_of_zarr(values), names
        return blocks_of_hdf5(*_place_in_hdf5(name, values), values, workers()), names
    if isinstance(values, np.memmap) and (client or on_ray) and values.ndim and values.size:
        return blocks_of_memmap(values, workers()), names
    array, found = to_array(name, values)
    return array, names or found


def _workers(client: Client | None, on_ray: bool) -> int | None:
    """Return the number of workers, or None if the rows stay in this process."""
    if on_ray:
        from dresoftmax.engines.ray import cpus

        return cpus()
    return None if client is None else max(1, len(client.nthreads()))


def _is_delayed(block: Any) -> bool:
    return is_a(block, "dask", "Delayed")


def _merge_columns(name: str, array: da.Array) -> da.Array:
    """Return a dask array whose blocks each have all columns."""
    if array.ndim != 2 or array.numblocks[1] == 1:
        return array
    return da.blockwise(
        _side_by_side, "ik", name, None, array, "ij",
        new_axes={"k": array.shape[1]}, concatenate=False, dtype=array.dtype, meta=array._meta,
    )  # fmt: skip


def _side_by_side(name: str, parts: list[Any]) -> Any:
    """Join blocks of the same rows; the result is sparse only if all of them are."""
    parts = [as_scipy(to_array(name, part)[0]) for part in parts]
    rows = sorted({part.shape[0] for part in parts})
    if len(rows) > 1:
        raise ValueError(
            f"blocks of {name} that lie side by side have {rows[0]} and {rows[-1]} rows"
        )
    if all(map(sp.issparse, parts)):
        return sp.hstack(parts, format="csr")
    return np.hstack([part.toarray() if sp.issparse(part) else part for part in parts])


def _blocks_of_frame(name: str, frame: Any) -> tuple[da.Array, Names]:
    # The empty frame `_meta` gives the types of the partitions.
    meta, names = to_array(name, frame._meta)
    blocks = frame.to_delayed()
    return stack(name, blocks, [np.nan] * len(blocks), meta, names), names


def _blocks_of_delayed(name: str, blocks: list[Any] | tuple[Any, ...]) -> tuple[da.Array, Names]:
    meta, names = dask.delayed(_head)(name, blocks[0]).compute()
    return stack(name, blocks, [np.nan] * len(blocks), meta, names), names


def _head(name: str, block: Any) -> tuple[Any, Names]:
    rows, names = to_array(name, block, " of block 0")
    if hasattr(rows, "to_scipy_sparse"):  # slicing it would compile for ten seconds
        return sp.csr_array((0, *rows.shape[1:]), dtype=rows.dtype), names
    return rows[:0], names


def _open_xarray(name: str, array: Any, workers: int | None) -> tuple[Any, Names]:
    names = None
    if array.ndim == 2 and array.dims[1] in array.coords:
        names = names_of(name, array.coords[array.dims[1]].to_numpy().tolist())
    # xarray has no public test for whether the values are still in a file.
    if array.ndim and not array._in_memory and array.chunks is None:
        dim = array.dims[0]
        step = array.encoding.get("preferred_chunks", {}).get(dim, 1)
        rows = rows_per_block(array.shape, array.dtype.itemsize, step, workers)
        array = array.chunk({dim: rows})
    return array.data, names


def _place_in_hdf5(name: str, dataset: Any) -> tuple[str, str]:
    """Return the file and the path in it, from which any process can read a dataset."""
    path = Path(os.fsdecode(dataset.file.filename))
    if not path.is_file():
        raise ValueError(
            f"{name} is an HDF5 dataset in {path}, which is not a file that workers can open; "
            "pass the values, dataset[...]"
        )
    if dataset.file.mode != "r":
        raise ValueError(
            f"{name} is an HDF5 dataset in {path}, which is open for writing, so no other "
            'process can read it; open it with mode "r"'
        )
    return str(path.resolve()), dataset.name
