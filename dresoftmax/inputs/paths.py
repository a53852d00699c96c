"""Paths → arrays.

    .npy              a dense array, mapped into memory
    .npz              a matrix written by `scipy.sparse.save_npz`
    .zarr             a chunked array (extra: zarr), or X.zarr::/name for one of a group
    .h5, .hdf5        X.h5::/name, a dataset (extra: hdf5)
    .parquet          a file or a directory of them, all columns (extra: dataframe)

A path begins with its file, and goes on after "::" within it.  Everything wrong with
a file is a ValueError or an OSError that names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dresoftmax.inputs.dataframes import Names
from dresoftmax.inputs.storage import blocks_of_hdf5, blocks_of_parquet

__all__ = ["file_of", "open_path"]

KINDS = "a dense .npy, a scipy.sparse .npz, a .zarr, a .parquet or an .h5::/dataset"


def open_path(name: str, path: str, workers: int | None = None) -> tuple[Any, Names]:
    """Return what lies at `path`, and the names of its columns if it has any.

    Parameters
    ----------
    name : str
        The argument that it was given for, for messages.
    path : str
        See the top of this module.
    workers : int or None
        Number of workers that the rows will be spread over, where it is known.

    Returns
    -------
    array : memmap, csr_array, zarr.Array or dask.array.Array
    names : tuple of str or None

    Raises
    ------
    ValueError
        Where the suffix or the content is of another kind, or a package is missing.
    OSError
        Where there is no such file.
    """
    file = file_of(path)
    inside = path.partition("::")[2]
    suffix = file.suffix.lower()
    if suffix not in (".npy", ".npz", ".zarr", ".h5", ".hdf5", ".parquet"):
        raise ValueError(f"{name} is the path {path}, of no kind known here; {KINDS} is needed")
    if not file.exists():
        raise FileNotFoundError(f"{name} is the path {path}, but there is no such file")
    if inside and suffix in (".npy", ".npz", ".parquet"):
        raise ValueError(f"{name} is the path {path}, but a {suffix} holds nothing under a name")
    match suffix:
        case ".npy":
            return _map_npy(file), None
        case ".npz":
            return _read_sparse(name, file), None
        case ".zarr":
            with _needs("zarr", "zarr", path):
                return _open_zarr(file, inside), None
        case ".parquet":
            with _needs("pyarrow", "dataframe", path):
                return _open_parquet(name, file, workers)
    with _needs("h5py", "hdf5", path):
        return _open_hdf5(file, inside, workers), None


def file_of(path: str) -> Path:
    """Return the file that a path begins with."""
    return Path(path.partition("::")[0])


@contextmanager
def _needs(package: str, extra: str, path: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ValueError(
            f"reading {path} needs {package}: python -m pip install 'dresoftmax[{extra}]'"
        ) from error


def _map_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a .npy file: {error}") from error
    if array.ndim == 0:
        raise ValueError(f"{path} holds a single number; an array of rows is needed")
    return array


def _read_sparse(name: str, path: Path) -> Any:
    import scipy.sparse as sp

    if name != "A":
        raise ValueError(f"{name} is a vector, but {path} is for sparse matrices; use .npy")
    try:
        return sp.csr_array(sp.load_npz(path))
    except (ValueError, KeyError, EOFError) as error:
        raise ValueError(
            f"{path} holds no sparse matrix; write one with scipy.sparse.save_npz, and a dense "
            "array with numpy.save as .npy"
        ) from error


def _open_zarr(path: Path, inside: str) -> Any:
    import zarr

    try:
        return zarr.open_array(path.resolve(), path=inside.strip("/"), mode="r")
    except Exception as error:  # what zarr raises differs between its versions
        raise ValueError(
            f"{path} cannot be read as a zarr array: {error} (an array of a group is "
            f"{path.name}::/name)"
        ) from error


def _open_hdf5(path: Path, inside: str, workers: int | None) -> Any:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise OSError(f"{path} cannot be read as HDF5: {error}") from error
    with file:
        dataset = file.get(inside) if inside else None
        if not isinstance(dataset, h5py.Dataset) or not dataset.shape:
            found: list[str] = []
            file.visititems(
                lambda key, item: found.append(key) if isinstance(item, h5py.Dataset) else None
            )
            raise ValueError(
                f"{path} needs the name of an array in it, as in {path.name}::/name; it holds "
                f"{', '.join('/' + key for key in found) or 'none'}"
            )
        return blocks_of_hdf5(str(path.resolve()), dataset.name, dataset, workers)


def _open_parquet(name: str, path: Path, workers: int | None) -> tuple[Any, Names]:
    import pyarrow

    try:
        array, names = blocks_of_parquet(name, path.resolve(), workers)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    if name != "A" and array.shape[1] == 1:
        return array[:, 0], None  # a file cannot hold a vector but as a column
    return array, names
