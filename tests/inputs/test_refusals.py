"""What a container cannot say, or says of itself and is not: a clear error.

What can be told without reading lazy data is told before any work; the rest when a
block is made, which the error names.
"""

from __future__ import annotations

import datetime
import decimal

import dask
import dask.array as da
import dask.dataframe as dd
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
import scipy.sparse
import sparse
import xarray as xr
import zarr
from helpers.forms import COLUMNS, DENSE, PROBLEM, D, N, columns, pandas_of, solve

A, B = PROBLEM.A, PROBLEM.b
LACKING = [1, None, 3]


def table(values):
    """Return a matrix whose second column is `values`, for every library."""
    return {"age": [1.0, -2.0, 1.5], "income": values}


def refuse(A, error, *parts, b=(0.2, 0.3, 0.5)):
    """Solving is an error that mentions `parts`, before the first iteration."""
    with pytest.raises(error) as caught:
        solve(A, b, None, callback=lambda record: pytest.fail("the solve has begun"))
    for part in parts:
        assert part in str(caught.value)


def lazy_frame(values):
    return dd.from_pandas(pd.DataFrame(table(values)), npartitions=1)


MISSING = {
    "pandas, nullable": pd.DataFrame(table(pd.array(LACKING, dtype="Int64"))),
    "pandas, Arrow": pd.DataFrame(table(pd.array(LACKING, dtype="double[pyarrow]"))),
    "Polars": pl.DataFrame(table(LACKING)),
    "Arrow": pa.table(table(LACKING)),
    "Arrow batch": pa.record_batch(table(LACKING)),
    "dask frame": lazy_frame(pd.array(LACKING, dtype="Int64")),
    "delayed": [dask.delayed(pa.table(table(LACKING)))],
}


@pytest.mark.parametrize("form", MISSING)
def test_missing_values_are_named_by_column_and_row(form):
    refuse(MISSING[form], ValueError, "A has missing values in column 'income'", "row 1")


@pytest.mark.parametrize(
    "b",
    [
        pd.Series(LACKING, dtype="Int64"),
        pl.Series(LACKING),
        pa.array(LACKING),
        pa.chunked_array([LACKING]),
        dd.from_pandas(pd.Series(LACKING, dtype="Int64"), npartitions=1),
    ],
    ids=lambda b: f"{type(b).__module__}.{type(b).__name__}",
)
def test_missing_values_in_b(b):
    refuse(np.eye(3), ValueError, "b has missing values: ", "row 1", b=b)


def test_nan_of_pandas_is_found_in_the_first_read():
    frame = pandas_of(A)
    frame.iloc[5, 1] = np.nan
    with pytest.raises(ValueError, match=r"A contains NaN .* block 0, row 5"):
        solve(frame)


TODAY = datetime.datetime(2024, 5, 17)
NO_NUMBERS = {
    "text": ["a", "b", "c"],
    "times": [TODAY] * 3,
    "decimals": [decimal.Decimal("1.5")] * 3,
    "mixed": pd.Series([1, "b", None], dtype=object),
    "categories": pd.Categorical([1, 2, 1]),
    "complex": np.array([1j, 2, 3]),
}


LIBRARIES = {
    "pandas": (pd.DataFrame, NO_NUMBERS),
    "dask frame": (lambda columns: lazy_frame(columns["income"]), NO_NUMBERS),
    "Polars": (pl.DataFrame, ["text", "times", "decimals"]),
    "Arrow": (pa.table, ["text", "times", "decimals"]),
}


@pytest.mark.parametrize(
    ("library", "what"), [(name, what) for name, (_, whats) in LIBRARIES.items() for what in whats]
)
def test_columns_that_are_no_numbers_are_named(library, what):
    frame = LIBRARIES[library][0](table(NO_NUMBERS[what]))
    refuse(frame, TypeError, "A has dtype", "in column 'income'", "real numbers")


def test_two_columns_of_one_name():
    frame = pd.DataFrame(A, columns=["a", "b", "a", "c"])
    refuse(frame, ValueError, "A has more than one column named 'a'", b=B)


MASKED = np.ma.masked_array(A, A == 0)


def blocks(kind):
    """Return a dask array of one block that is `kind` of the rows, and says nothing of it."""
    return da.from_array(A, chunks=(N, D)).map_blocks(kind, meta=np.empty((0, 0)))


def vector_of(kind):
    return da.from_array(B, chunks=N).map_blocks(kind, meta=np.empty(0))


WRONG_KINDS = {
    "masked": (MASKED, TypeError, ["A is a masked array", "fill"]),
    "masked block": (blocks(np.ma.asarray), TypeError, ["block 0 of A is a masked array"]),
    "masked block of some columns": (
        da.concatenate([blocks(np.ma.asarray), blocks(np.asarray)], axis=1),
        TypeError, ["A is a masked array"],
    ),
    "fill value in some columns": (
        da.concatenate([blocks(np.asarray), blocks(lambda A: sparse.COO.from_numpy(A, 1))], axis=1),
        ValueError, ["fill value 1.0"],
    ),
    "masked, delayed": ([dask.delayed(MASKED)], TypeError, ["A is a masked array"]),
    "fill value": (sparse.COO.from_numpy(A + 1, 1), ValueError, ["fill value 1.0"]),
    "fill value in a block": (
        blocks(lambda A: sparse.COO.from_numpy(A + 1, 1)), ValueError, ["fill value 1.0"],
    ),
    "dictionary of keys": (sparse.DOK.from_numpy(A), TypeError, ["A is of type DOK"]),
    "mapping": (columns(A), TypeError, ["A is of type dict"]),
    "data set": (xr.Dataset({"v": (("i", "j"), A)}), TypeError, ["Dataset"]),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, ["A is not an array"]),
    "structured": (pandas_of(A).to_records(), ValueError, ["A has 1 dimension"]),
    "one column": (pandas_of(A)["age"], ValueError, ["A has 1 dimension"]),
    "blocks of rows": (
        da.from_delayed(dask.delayed(A[0]), (N, D), float), ValueError, ["block 0 of A has shape"],
    ),
    "blocks side by side": (
        da.concatenate(
            [da.from_delayed(dask.delayed(A[:rows, :2]), (N, 2), float) for rows in (N, 9)], axis=1
        ),
        ValueError, ["blocks of A that lie side by side have 9 and 200 rows"],
    ),
    "tables in blocks": (
        da.from_delayed(dask.delayed(pandas_of(A)), (N, D), float),
        TypeError, ["block 0 of A is of type DataFrame", "list of delayed"],
    ),
    "wider blocks": (
        da.from_delayed(dask.delayed(np.ones)((N, D + 1)), (N, D), float),
        ValueError, ["block 0 of A has 5 columns, but A has 4"],
    ),
    "blocks of other widths": (
        [dask.delayed(A), dask.delayed(A[:, 1:])], ValueError, ["block 1 of A has shape (200, 3)"],
    ),
    "blocks of other columns": (
        [dask.delayed(pandas_of(A)), dask.delayed(pandas_of(A)[list(COLUMNS[::-1])])],
        ValueError, ["block 1 of A has the columns", "'age'"],
    ),
    "columns of unknown number": (
        da.from_delayed(dask.delayed(A), (N, np.nan), float),
        ValueError, ["A has an unknown number of columns", "compute_chunk_sizes"],
    ),
    "no rows": (pandas_of(A[:0]), ValueError, ["A has shape (0, 4)"]),
    "no rows in any block": ([dask.delayed(A[:0])] * 2, ValueError, ["A has shape (0, 4)"]),
    "no columns": (pd.DataFrame(index=range(3)), ValueError, ["A has shape (3, 0)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_KINDS)
def test_A_of_a_kind_that_cannot_be_taken(case):
    A, error, parts = WRONG_KINDS[case]
    refuse(A, error, *parts, b=B)


@pytest.mark.parametrize(
    ("b", "part"),
    [
        (scipy.sparse.csr_array(B[None]), "b is a sparse array"),
        (scipy.sparse.csr_matrix(B[:, None]), "b is a sparse array"),
        (sparse.COO.from_numpy(B), "b is a sparse array"),
        (da.from_array(sparse.COO.from_numpy(B), asarray=False), "b is a sparse array"),
        (vector_of(sparse.COO.from_numpy), "a block of b is sparse"),
        (np.ma.asarray(B), "b is a masked array"),
        (vector_of(np.ma.asarray), "b is a masked array"),
    ],
)
def test_sparse_and_masked_targets(b, part):
    refuse(A, TypeError, part, b=b)


def declared(block, *shape):
    return da.from_delayed(dask.delayed(block, traverse=False), shape, float)


BB = np.stack([B, B], axis=1)


@pytest.mark.parametrize(
    ("b", "error", "parts"),
    [
        (declared(BB, N, 3), ValueError, ["a block of b has shape (200, 2)", "(rows, 3)"]),
        (declared(BB, N), ValueError, ["a block of b has shape (200, 2)"]),
        (declared(B, N, 2), ValueError, ["a block of b has shape (200,)", "(rows, 2)"]),
        (
            da.concatenate([declared(BB[:90, :1], 90, 2), declared(BB[90:], N - 90, 2)]),
            ValueError, ["a block of b has shape (90, 1)", "(rows, 2)"],
        ),
        (declared(BB, N, np.nan), ValueError, ["b has an unknown number of columns"]),
        (declared(BB + 0j, N, 2), TypeError, ["b has dtype complex128"]),
        (declared(None, N), TypeError, ["b is None"]),
        ([dask.delayed(B[:90]), dask.delayed(B[90:] + 0j)], TypeError, ["b has dtype complex128"]),
    ],
)  # fmt: skip
def test_blocks_of_targets_are_what_the_dask_array_says(b, error, parts):
    refuse(A, error, *parts, b=b)


@pytest.mark.parametrize("form", [form for form in DENSE if form != "dask frame"])
def test_a_shorter_b_is_an_error_in_every_container(form, tmp_path):
    b = DENSE[form](B[:-1], tmp_path)
    refuse(A, ValueError, "b has length 199, but A has 200 rows", b=b)


# --- files -----------------------------------------------------------------------


def write_hdf5(folder):
    with h5py.File(folder / "A.h5", "w") as file:
        file["group/A"] = A
        file["b"] = B


def test_an_open_hdf5_file_has_to_be_readable_by_others(tmp_path):
    with h5py.File(tmp_path / "A.h5", "w") as file:
        refuse(file.create_dataset("A", data=A), ValueError, "open for writing", 'mode "r"', b=B)
    with h5py.File("A.h5", "w", driver="core", backing_store=False) as file:
        refuse(
            file.create_dataset("A", data=A), ValueError, "not a file that workers can open", b=B
        )


def test_paths_that_cannot_be_taken(tmp_path):
    np.save(tmp_path / "A.npy", A)
    write_hdf5(tmp_path)
    zarr.create_group(tmp_path / "A.zarr").create_array("A", data=A)
    texts = pa.table(table(["a", "b", "c"]))
    pa.parquet.write_table(texts, tmp_path / "text.parquet")
    pa.parquet.write_table(pa.table(table(LACKING)), tmp_path / "lacking.parquet")
    pa.parquet.write_table(texts[:0].select(["age"]), tmp_path / "empty.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"not an array")
    (tmp_path / "broken.h5").write_bytes(b"not an array")
    for path, error, parts in (
        ("none.npy", FileNotFoundError, ["A is the path", "none.npy", "no such file"]),
        ("none.h5::/A", FileNotFoundError, ["none.h5", "no such file"]),
        ("A.csv", ValueError, ["A.csv", "no kind known", ".parquet"]),
        ("A.npy::/A", ValueError, ["A.npy::/A", "nothing under a name"]),
        ("A.h5", ValueError, ["A.h5::/name", "/b, /group/A"]),
        ("A.h5::/group", ValueError, ["A.h5::/name", "/group/A"]),
        ("A.h5::/c", ValueError, ["A.h5::/name", "/b"]),
        ("A.zarr", ValueError, ["A.zarr cannot be read", "A.zarr::/name"]),
        ("text.parquet", TypeError, ["column 'income'", "real numbers"]),
        ("lacking.parquet", ValueError, ["missing values in column 'income'"]),
        ("empty.parquet", ValueError, ["A has shape (0, 1)"]),
        ("broken.parquet", ValueError, ["broken.parquet"]),
        ("broken.h5", OSError, ["broken.h5"]),
    ):
        refuse(tmp_path / path, error, *parts)


def test_files_of_a_directory_have_the_same_columns(tmp_path):
    folder = tmp_path / "A.parquet"
    folder.mkdir()
    pandas_of(A[:90]).to_parquet(folder / "0.parquet")
    pandas_of(A[90:])[list(COLUMNS[1:])].to_parquet(folder / "1.parquet")
    refuse(folder, ValueError, "block 1 of A has the columns", "'age'", b=B)


# --- on a cluster ----------------------------------------------------------------


def test_what_a_worker_finds_is_said_here(client):
    blocks = [dask.delayed(pa.table)(table(values)) for values in ([1, 2, 3], LACKING)]
    refuse(blocks, ValueError, "A has missing values in column 'income'", "row 1 of block 1")
