"""One problem in every container that data come in.

The matrix holds small whole numbers, which every number type holds exactly, so that
there is one certified answer for all of them.
"""

from __future__ import annotations

from itertools import pairwise

import dask
import dask.array as da
import dask.dataframe as dd
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import scipy.sparse
import sparse
import xarray as xr
import zarr
from hypothesis import strategies as st

import dresoftmax
from helpers.problems import Problem, reference_solution, spectrum_matrix, target

N, D = 200, 4
COLUMNS = ("age", "income", "größe", "x 4")


def make_problem():
    rng = np.random.default_rng(7)
    A = np.round(6 * spectrum_matrix(N, D, 3.0, rng))
    A[3] = 0
    b = target(A, np.array([0.1, -0.05, 0.1, 0.02]), "exp+linear", "mild", rng)
    return Problem(A, b, w=rng.uniform(0, 0.4, N) / N)


PROBLEM = make_problem()


def assert_solved(result, names=None):
    assert result.success, result.message
    np.testing.assert_allclose(result.x, reference_solution(PROBLEM).x, rtol=1e-7)
    assert result.names == names
    assert list(result.coefficients) == list(names or ["x0", "x1", "x2", "x3"])
    assert list(result.coefficients.values()) == result.x.tolist()


def solve(A=PROBLEM.A, b=PROBLEM.b, w=PROBLEM.w, **options):
    return dresoftmax.solve(A, b, w=w, tol=1e-11, seed=0, **options)


# --- containers ------------------------------------------------------------------
# Each takes a matrix or a vector, and a directory to write to.


def labels(values):
    return COLUMNS[: values.shape[1]] if values.ndim == 2 else ("value",)


def columns(values):
    return dict(zip(labels(values), np.atleast_2d(values.T), strict=True))


def pandas_of(values, folder=None):
    index = np.random.default_rng(0).permutation(len(values))  # plays no part
    frame = pd.DataFrame(columns(values), index=index)
    return frame if values.ndim == 2 else frame["value"]


def nullable(values, folder):
    frame = pandas_of(values)
    return frame.convert_dtypes() if values.ndim == 2 else frame.astype("Float64")


def polars_of(values, folder):
    frame = pl.DataFrame(columns(values))
    return frame if values.ndim == 2 else frame["value"]


def arrow_of(values, folder=None):
    table = pa.table(columns(values))
    parts = pa.concat_tables([table[:70], table[70:]])
    return parts if values.ndim == 2 else parts["value"]


def record_batch(values, folder):
    batch = pa.record_batch(columns(values))
    return batch if values.ndim == 2 else batch["value"]


def dask_frame(values, folder):
    # The second partition is empty, and no length is known.
    parts = [pandas_of(values[rows]) for rows in (slice(0, 60), slice(60, 60), slice(60, None))]
    return dd.from_delayed([dask.delayed(part) for part in parts], meta=parts[0][:0])


def xarray_of(values, folder=None):
    coordinates = {"column": list(labels(values))} if values.ndim == 2 else {}
    return xr.DataArray(values, dims=["row", "column"][: values.ndim], coords=coordinates)


def xarray_in_file(values, folder):
    xarray_of(values).to_dataset(name="v").to_netcdf(folder / f"{values.ndim}.nc", engine="scipy")
    return xr.open_dataset(folder / f"{values.ndim}.nc", engine="scipy")["v"]


def zarr_of(values, folder):
    chunks = (30, 3)[: values.ndim]
    array = zarr.create_array(
        folder / f"{values.ndim}.zarr", shape=values.shape, chunks=chunks, dtype=values.dtype
    )
    array[...] = values
    return array


def zarr_in_memory(values, folder):
    return zarr.array(values, chunks=(30, 3)[: values.ndim])


def sharded(values, folder):
    array = zarr.create_array(
        folder / f"{values.ndim}.zarr",
        shape=values.shape,
        chunks=(10, 2)[: values.ndim],
        shards=(50, 4)[: values.ndim],
        dtype=values.dtype,
    )
    array[...] = values
    return array


def hdf5_path(values, folder, **options):
    with h5py.File(folder / f"{values.ndim}.h5", "w") as file:
        file.create_dataset("in/here", data=values, **options)
    return f"{folder / f'{values.ndim}.h5'}::/in/here"


def hdf5_of(values, folder, **options):
    path = hdf5_path(values, folder, **options).partition("::")[0]
    return h5py.File(path)["in/here"]  # closed with the last reference to it


def hdf5_chunked(values, folder):
    chunks = tuple(np.minimum(values.shape, (30, 2)[: values.ndim]).tolist())
    return hdf5_of(values, folder, chunks=chunks, compression="gzip")


def npy_path(values, folder):
    np.save(folder / f"{values.ndim}.npy", values)
    return folder / f"{values.ndim}.npy"


def zarr_path(values, folder):
    zarr_of(values, folder)
    return str(folder / f"{values.ndim}.zarr")


def zarr_of_xarray(values, folder):
    data = xarray_of(values).to_dataset(name="v")
    data.to_zarr(folder / "store.zarr", zarr_format=2, mode="a")
    return f"{folder / 'store.zarr'}::/v"


def parquet_file(values, folder):
    table = arrow_of(values) if values.ndim == 2 else pa.table(columns(values))
    pa.parquet.write_table(table, folder / f"{values.ndim}.parquet", row_group_size=30)
    return folder / f"{values.ndim}.parquet"


def parquet_folder(values, folder):
    frame = pandas_of(values) if values.ndim == 2 else pandas_of(values).to_frame()
    frame.index.name = "customer"
    (folder / f"{values.ndim}.parquet").mkdir()
    for i, rows in enumerate((slice(0, 50), slice(50, None))):
        frame[rows].to_parquet(folder / f"{values.ndim}.parquet" / f"part-{i}.parquet")
    return folder / f"{values.ndim}.parquet"


def delayed_arrays(values, folder):
    ends = (0, 20, 20, 120, len(values))
    return [dask.delayed(values[start:stop]) for start, stop in pairwise(ends)]


def delayed_tables(values, folder):
    make = dask.delayed(arrow_of)
    return (make(values[:90]), make(values[90:]))


UNNAMED = {
    "list": lambda values, folder: values.tolist(),
    "matrix": lambda values, folder: values.view(np.matrix) if values.ndim == 2 else values,
    "dask array": lambda values, folder: da.from_array(values, chunks=(70, 3)[: values.ndim]),
    "zarr": zarr_of,
    "zarr in memory": zarr_in_memory,
    "zarr in shards": sharded,
    "HDF5": hdf5_of,
    "HDF5 in chunks": hdf5_chunked,
    "delayed arrays": delayed_arrays,
    "memory map": lambda values, folder: np.load(npy_path(values, folder), mmap_mode="r"),
    "path of .npy": npy_path,
    "path of .zarr": zarr_path,
    "path of a group": zarr_of_xarray,
    "path of .h5": hdf5_path,
}
NAMED = {
    "pandas": pandas_of,
    "pandas, nullable": nullable,
    "Polars": polars_of,
    "Arrow": arrow_of,
    "Arrow batch": record_batch,
    "dask frame": dask_frame,
    "xarray": xarray_of,
    "xarray on dask": lambda values, folder: xarray_of(values).chunk(60),
    "xarray in a file": xarray_in_file,
    "delayed tables": delayed_tables,
    "path of .parquet": parquet_file,
    "path of a directory": parquet_folder,
}
# Vectors have no names.
DENSE = UNNAMED | NAMED
SPARSE = {
    "csr_array": scipy.sparse.csr_array,
    "csr_matrix": scipy.sparse.csr_matrix,
    "csc_array": scipy.sparse.csc_array,
    "coo_matrix": scipy.sparse.coo_matrix,
    "lil_array": scipy.sparse.lil_array,
    "COO": sparse.COO.from_numpy,
    "GCXS": sparse.GCXS.from_numpy,
}

# --- blocks of any kind ------------------------------------------------------------

KINDS = {
    "dense": np.asarray,
    "Fortran": np.asfortranarray,
    "matrix": lambda values: values.view(np.matrix),
    "csr_array": scipy.sparse.csr_array,
    "csr_matrix": scipy.sparse.csr_matrix,
    "csc_matrix": scipy.sparse.csc_matrix,
    "coo_array": scipy.sparse.coo_array,
    "COO": sparse.COO.from_numpy,
    "GCXS": sparse.GCXS.from_numpy,
}
DENSE_KINDS = ["dense", "Fortran", "matrix"]
SPARSE_KINDS = [kind for kind in KINDS if kind not in DENSE_KINDS]
ANY_DTYPE = ["float64", "float32", "int8", "int16", "int64"]
DTYPES = [*ANY_DTYPE, "float16", "longdouble", ">f4"]  # sparse packages lack the last ones


@st.composite
def cuts(draw, n=N):
    """Where rows are cut, empty chunks included."""
    inner = draw(st.lists(st.integers(0, n), max_size=6))
    return [0, *sorted(inner), n]


@st.composite
def blocks_of_A(draw, groups, A=PROBLEM.A):
    """Blocks of one group of kinds, and the rows that each has."""
    kinds = draw(st.sampled_from(groups))
    blocks = []
    for start, stop in pairwise(draw(cuts(len(A)))):
        kind = draw(st.sampled_from(kinds))
        dtypes = [dtype for dtype in DTYPES if dtype in ANY_DTYPE or kind in DENSE_KINDS]
        rows = A[start:stop].astype(draw(st.sampled_from(dtypes)))
        blocks.append((KINDS[kind](rows), stop - start))
    return blocks


def as_dask(blocks, declared, known):
    """Return blocks as a dask array that says they are dense and of another type."""
    parts = [
        da.from_delayed(
            dask.delayed(block, traverse=False),
            (rows if known else np.nan, block.shape[1]),
            meta=np.empty((0, 0), declared),
        )
        for block, rows in blocks
    ]
    return da.concatenate(parts, allow_unknown_chunksizes=True)
