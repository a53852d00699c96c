"""How arrays on disk are cut, and that nobody reads them before their rows are needed."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.sparse
import xarray as xr
import zarr
from helpers.forms import PROBLEM, D, N, hdf5_of, npy_path, sharded, zarr_of

from dresoftmax.inputs.containers import unpack
from dresoftmax.inputs.dataframes import to_array
from dresoftmax.inputs.storage import blocks_of_memmap, rows_per_block

A = PROBLEM.A


@pytest.fixture
def small_blocks(monkeypatch):
    """Have blocks of 50 rows in float64."""
    monkeypatch.setattr("dresoftmax.inputs.storage.BLOCK_BYTES", 50 * 8 * D)


def assert_same(array, chunks=None):
    if chunks is not None:
        assert array.chunks == (chunks, (D,))
    np.testing.assert_array_equal(np.asarray(array.compute(scheduler="synchronous")), A)


def test_blocks_are_whole_multiples_of_what_was_written(small_blocks):
    shape = (N, D)
    assert rows_per_block(shape, 8) == 50
    assert rows_per_block(shape, 4) == 100
    assert rows_per_block(shape, 8, step=20) == 40
    assert rows_per_block(shape, 8, step=70) == 70
    assert rows_per_block(shape, 8, workers=3) == 17
    assert rows_per_block((N,), 8) == 50 * D
    assert rows_per_block((N, 0), 8) > N


def test_a_mapped_file_is_cut_for_the_workers(tmp_path, small_blocks):
    mapped = np.load(npy_path(A, tmp_path), mmap_mode="r")
    assert_same(blocks_of_memmap(mapped, workers=1), (50,) * 4)
    assert_same(blocks_of_memmap(mapped, workers=3), (17,) * 11 + (13,))


def test_zarr_is_cut_as_it_was_stored(tmp_path):
    assert_same(unpack("A", zarr_of(A, tmp_path))[0], (30,) * 6 + (20,))
    (tmp_path / "shards").mkdir()
    assert_same(unpack("A", sharded(A, tmp_path / "shards"))[0], (50,) * 4)


def test_hdf5_is_cut_by_size(tmp_path, small_blocks):
    assert_same(unpack("A", hdf5_of(A, tmp_path))[0], (50,) * 4)
    (tmp_path / "chunks").mkdir()
    chunked = hdf5_of(A, tmp_path / "chunks", chunks=(20, 3))
    assert_same(unpack("A", chunked)[0], (40,) * 5)


def test_parquet_is_cut_by_row_groups(tmp_path, small_blocks):
    (tmp_path / "A.parquet").mkdir()
    for i, rows in enumerate((A[:90], A[90:])):
        table = pa.table(list(rows.T), names=["a", "b", "c", "d"])
        pa.parquet.write_table(table, tmp_path / "A.parquet" / f"{i}.parquet", row_group_size=20)
    assert_same(unpack("A", tmp_path / "A.parquet")[0], (40, 50, 40, 40, 30))


def test_xarray_is_cut_as_its_file_is(tmp_path, small_blocks):
    stored = xr.DataArray(A, dims=["row", "column"], name="A").to_dataset()
    chunks = {"A": {"chunks": (20, 3)}}
    stored.to_zarr(tmp_path / "A.zarr", encoding=chunks, zarr_format=2)
    lazy = xr.open_zarr(tmp_path / "A.zarr", chunks=None)["A"]
    assert_same(unpack("A", lazy)[0], (40,) * 5)


@pytest.mark.parametrize("form", ["npy", "HDF5", "zarr", "parquet"])
def test_tasks_carry_no_rows_and_read_when_they_run(form, tmp_path):
    path = {
        "npy": tmp_path / "A.npy",
        "HDF5": f"{tmp_path / 'A.h5'}::/A",
        "zarr": tmp_path / "A.zarr",
        "parquet": tmp_path / "A.parquet",
    }[form]

    def write(values):
        if form == "npy":
            np.save(path, values)
        elif form == "HDF5":
            with h5py.File(tmp_path / "A.h5", "w") as file:
                file["A"] = values
        elif form == "zarr":
            zarr.create_array(path, data=values, overwrite=True)
        else:
            pd.DataFrame(values, columns=list("abcd")).to_parquet(path)

    write(np.zeros((N, D)))
    lazy = unpack("A", path)[0]
    if form == "npy":
        lazy = blocks_of_memmap(lazy, workers=1)
    assert len(pickle.dumps(lazy.to_delayed()[0, 0].dask)) < A.nbytes / 2
    write(A)
    assert_same(lazy)


def test_what_is_in_memory_is_kept_as_it_is():
    for values in (A, np.asfortranarray(A), A[::2], scipy.sparse.csr_array(A)):
        array = unpack("A", values)[0]
        data = array.data if scipy.sparse.issparse(array) else array
        assert np.shares_memory(data, values.data if scipy.sparse.issparse(values) else values)
    for vector in (pd.Series(A[:, 0].copy()), pl.Series(A[:, 0].copy()), pa.array(A[:, 0].copy())):
        again = to_array("b", vector)[0]
        assert np.shares_memory(again, to_array("b", vector)[0])


MIXED = {
    ("int8", "float32"): "float32",
    ("bool", "int16"): "float32",
    ("float16", "uint8"): "float32",
    ("int32", "float32"): "float64",
    ("int64", "bool"): "float64",
    ("uint64", "uint64"): "float64",
}


@pytest.mark.parametrize("types", MIXED, ids=" ".join)
@pytest.mark.parametrize(
    "library", [pd.DataFrame, pl.DataFrame, pa.table], ids=lambda f: f.__module__
)
def test_columns_share_the_narrowest_float_type(library, types):
    columns = [np.array([0, 1, 1], dtype=kind) for kind in types]
    array, names = to_array("A", library(dict(zip("ab", columns, strict=True))))
    assert (array.dtype, names) == (np.dtype(MIXED[types]), ("a", "b"))
    np.testing.assert_array_equal(array, np.stack(columns, axis=1).astype(float))
