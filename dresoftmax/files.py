"""Files to arrays, and a result to a file: what the command line reads and writes.

    .npy     a dense array, mapped into memory
    .npz     a matrix written by `scipy.sparse.save_npz`
    .zarr    a chunked array (extra: zarr)

For a cluster .npy and .zarr become dask arrays of row blocks, and workers read
their own rows of the file, which must therefore lie under the same path for them.
A sparse matrix is read here, and its rows are sent to them.

Everything wrong with a file is a ValueError or an OSError that names it.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dresoftmax.result import SolveResult

if TYPE_CHECKING:
    import dask.array as da

    from dresoftmax.result import JointResult

__all__ = ["check_writable", "read_array", "write_result"]

BLOCK_BYTES = 48 * 2**20


def read_array(path: Path, workers: int | None = None) -> Any:
    """Return the array in `path`, ready for `dresoftmax.solve`.

    Parameters
    ----------
    path : Path
    workers : int or None
        Number of workers that the rows will be spread over; None for a solve in
        this process.

    Returns
    -------
    memmap, csr_array or dask.array.Array

    Raises
    ------
    ValueError
        Where the suffix or the content is of another kind, or zarr is missing.
    """
    match path.suffix.lower():
        case ".npy":
            return _map_npy(path) if workers is None else _blocks_of_npy(path, workers)
        case ".npz":
            return _read_sparse(path)
        case ".zarr":
            return _read_zarr(path)
    raise ValueError(
        f"{path} is of no kind known here; a dense .npy, a scipy.sparse .npz or a .zarr is needed"
    )


def _map_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a .npy file: {error}") from error
    if array.ndim == 0:
        raise ValueError(f"{path} holds a single number; an array of rows is needed")
    return array


def _blocks_of_npy(path: Path, workers: int) -> da.Array:
    import dask.array as da

    array = _map_npy(path)
    n = array.shape[0]
    row_bytes = max(array.nbytes // max(n, 1), 1)
    # Several blocks per worker let the work spread evenly.
    rows = max(1, min(BLOCK_BYTES // row_bytes, -(-n // (4 * workers))))
    return da.map_blocks(
        _rows_of_npy,
        str(path.resolve()),
        chunks=da.core.normalize_chunks((rows, *array.shape[1:]), array.shape),
        meta=np.empty((0,) * array.ndim, dtype=array.dtype),
    )


def _rows_of_npy(path: str, *, block_info: Any) -> np.ndarray:
    (start, stop), *_ = block_info[None]["array-location"]
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[start:stop])


def _read_sparse(path: Path) -> Any:
    import scipy.sparse as sp

    try:
        return sp.csr_array(sp.load_npz(path))
    except (ValueError, KeyError, EOFError) as error:
        raise ValueError(
            f"{path} holds no sparse matrix; write one with scipy.sparse.save_npz, and a dense "
            "array with numpy.save as .npy"
        ) from error


def _read_zarr(path: Path) -> da.Array:
    import dask.array as da

    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"reading {path} needs zarr: python -m pip install 'dresoftmax[zarr]'"
        ) from error
    try:
        return da.from_zarr(str(path))
    except Exception as error:  # what zarr raises differs between its versions
        raise ValueError(f"{path} cannot be read as a zarr array: {error}") from error


def check_writable(path: Path) -> None:
    """Raise OSError where a result could not be written to `path`."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory; name a file for the result")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the directory {path.parent} of the output does not exist")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"the output cannot be written to {path.parent}: {error}") from error


def write_result(path: Path, result: SolveResult | JointResult) -> None:
    """Write a result as .npz, whole or not at all.

    Each field of a `SolveResult` is an array of its name, those of several targets
    stacked along the last axis, the status is its name, and each column of the history
    is an array ``history_<name>``.  ``numpy.load`` reads it without pickle.
    """
    one = result if isinstance(result, SolveResult) else result[0]
    columns = {
        f.name: np.asarray(getattr(result, f.name))
        for f in fields(one)
        if f.name not in ("history", "status")
    }
    columns["status"] = (
        np.asarray(result.status.name)
        if isinstance(result, SolveResult)
        else np.asarray([status.name for status in result.status])
    )
    if result.history:
        for f in fields(result.history[0]):
            values = [getattr(record, f.name) for record in result.history]
            columns[f"history_{f.name}"] = np.asarray(values)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            np.savez(file, allow_pickle=False, **columns)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
