"""Every container that data come in, against the same problem in plain NumPy."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from helpers.forms import (
    COLUMNS,
    DENSE,
    NAMED,
    PROBLEM,
    SPARSE,
    D,
    N,
    assert_solved,
    columns,
    pandas_of,
    solve,
)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("form", DENSE)
def test_A_in_every_container(form, dtype, tmp_path):
    if form == "xarray in a file" and dtype == np.int64:
        dtype = np.int32  # netCDF 3 has no wider one
    A = DENSE[form](PROBLEM.A.astype(dtype), tmp_path)
    assert_solved(solve(A), COLUMNS if form in NAMED else None)


@pytest.mark.parametrize("form", DENSE)
def test_b_and_w_in_every_container(form, tmp_path):
    """Their rows are cut elsewhere than those of A."""
    A = da.from_array(PROBLEM.A, chunks=(45, D))
    parts = []
    for name in ("b", "w"):
        (tmp_path / name).mkdir()
        parts.append(DENSE[form](getattr(PROBLEM, name), tmp_path / name))
    assert_solved(solve(A, *parts))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64], ids=lambda t: t.__name__)
@pytest.mark.parametrize("form", SPARSE)
def test_sparse_A_of_every_kind(form, dtype):
    A = PROBLEM.A.astype(dtype)
    assert_solved(solve(SPARSE[form](A)))
    blocks = [dask.delayed(SPARSE[form])(rows) for rows in (A[:50], A[50:50], A[50:])]
    assert_solved(solve(blocks))


def test_sparse_columns_of_pandas_stay_sparse():
    frame = pandas_of(PROBLEM.A).astype(pd.SparseDtype(float, 0.0))
    assert_solved(solve(frame), COLUMNS)
    with pytest.raises(ValueError, match="A has sparse columns"):
        solve(frame.astype(pd.SparseDtype(float, np.nan)))


def test_a_lazy_frame_is_collected():
    frame = pl.DataFrame(columns(PROBLEM.A)).lazy()
    assert_solved(solve(frame), COLUMNS)


def test_names_come_from_strings_alone():
    assert solve(pd.DataFrame(PROBLEM.A)).names is None
    assert solve(xr.DataArray(PROBLEM.A, coords={"j": [4, 5, 6, 7]}, dims=["i", "j"])).names is None


@pytest.mark.parametrize("b_form", ["dask array", "dask frame", "pandas", "delayed arrays"])
@pytest.mark.parametrize("A_form", ["dask array", "dask frame", "delayed arrays"])
def test_lengths_of_chunks_need_not_be_known(A_form, b_form, tmp_path):
    A, b = DENSE[A_form](PROBLEM.A, tmp_path), DENSE[b_form](PROBLEM.b, tmp_path)
    assert_solved(solve(A, b), COLUMNS if A_form in NAMED else None)
    with pytest.raises(ValueError, match=r"b has length 199, but A has 200 rows"):
        solve(A, DENSE[b_form](PROBLEM.b[:-1], tmp_path))


# --- on a cluster ----------------------------------------------------------------

ON_WORKERS = [
    "pandas",
    "Arrow",
    "dask frame",
    "delayed tables",
    "xarray in a file",
    "zarr in shards",
    "zarr in memory",
    "HDF5",
    "memory map",
    "path of .npy",
    "path of .h5",
    "path of a directory",
]


@pytest.mark.parametrize("form", ON_WORKERS)
def test_containers_on_two_workers(form, tmp_path, client):
    A = DENSE[form](PROBLEM.A, tmp_path)
    b = DENSE[form](PROBLEM.b, tmp_path)
    assert_solved(solve(A, b, client=client), COLUMNS if form in NAMED else None)


@pytest.mark.parametrize("form", ["coo_matrix", "COO", "GCXS"])
def test_sparse_A_on_two_workers(form, client):
    assert_solved(solve(SPARSE[form](PROBLEM.A), client=client))


@pytest.mark.parametrize("order", ["C", "F"])
def test_workers_read_a_part_of_a_memory_map(order, tmp_path, client):
    """The map begins within a page, and the part begins within the map."""
    whole = np.memmap(tmp_path / "x", np.float64, "w+", 1000, (N + 7, D + 2), order)
    whole[...] = np.nan
    whole[7:, 1 : D + 1] = PROBLEM.A
    assert_solved(solve(whole[7:, 1 : D + 1], client=client))
    assert_solved(solve(whole[:6:-1, 1 : D + 1], PROBLEM.b[::-1], PROBLEM.w[::-1], client=client))


def test_what_a_private_map_shows_is_sent(tmp_path, client):
    np.save(tmp_path / "A.npy", np.zeros((N, D)))
    private = np.load(tmp_path / "A.npy", mmap_mode="c")
    private[...] = PROBLEM.A
    assert_solved(solve(private, client=client))


def test_a_client_that_is_not_the_current_one(client):
    """What has to be known first is computed on the client that was given."""
    make = dask.delayed(lambda rows: (dask.distributed.get_worker(), rows)[1])
    dask.distributed.client._set_global_client(None)
    try:
        blocks = [make(PROBLEM.A[:80]), make(PROBLEM.A[80:])]
        assert_solved(solve(blocks, client=client))
    finally:
        dask.distributed.client._set_global_client(client)
