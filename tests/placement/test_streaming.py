"""Rows that are loaded in each read: the same answer, each load counted, nothing kept.

Loads are counted by files that the chunks leave, memory by the tracing of Python's
allocations, which NumPy reports to.  Tests of a cluster come last: once there is a
client, dask arrays are solved on it.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import weakref
from contextlib import closing
from functools import partial
from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import zarr
from click.testing import CliRunner
from conftest import local_cluster
from helpers.loaded import (
    GB,
    assert_reads_alike,
    assert_same,
    blocks_of,
    lazy,
    problem_of,
    sketching,
    solve,
)
from helpers.problems import counted, loads, sparse, synthetic

import dresoftmax
from dresoftmax.blocks.csr import CsrBlock
from dresoftmax.blocks.dense import DenseBlock
from dresoftmax.blocks.lazy import LazyBlock, LazySource, Rows
from dresoftmax.cli import main
from dresoftmax.engines.memory import FILL, PROCESS, memory_of
from dresoftmax.inputs.dataset import check_dataset
from dresoftmax.placement import chunks as placing
from dresoftmax.placement.dask import place_on_workers
from dresoftmax.placement.dask_graph import chunk_sources
from dresoftmax.placement.local import place_here

pytestmark = pytest.mark.usefixtures("samples")

HESSIANS = ["exact", "leverage", "uniform", "countsketch", "auto"]


# --- chunks that are loaded in each read ---------------------------------------------


@pytest.mark.parametrize("hessian", HESSIANS)
def test_what_is_streamed_gives_the_answer_of_what_is_held(hessian):
    problem = problem_of().with_data(A=lazy(problem_of().A))
    held, streamed = (
        solve(problem, persist=persist, **sketching(hessian)) for persist in (True, False)
    )
    assert_same(streamed, held, rtol=1e-7)
    if hessian not in ("exact", "auto"):
        assert_reads_alike(streamed, held)


def test_every_chunk_is_loaded_once_in_each_read(tmp_path):
    """The draw of the sample is one more read, and is counted as such."""
    problem = problem_of()
    result = solve(problem.with_data(A=counted(problem.A, 500, tmp_path)), persist=False)
    assert_same(result, solve(problem, hessian="exact"))
    full = sum(record.rows_read for record in result.history if record.phase == "full")
    assert result.history[0].rows_read >= 4000
    assert loads(tmp_path) == [1 + full // 4000] * 8


def test_nothing_is_kept_between_reads():
    problem, seen = problem_of(), []

    def load(block_info=None):
        (first, last), _ = block_info[None]["array-location"]
        rows = problem.A[first:last].copy()
        seen.append(weakref.ref(rows))
        return rows

    A = da.map_blocks(load, chunks=((500,) * 8, (6,)), dtype=float, meta=problem.A[:0])
    alive = []
    solve(
        problem.with_data(A=A),
        persist=False,
        callback=lambda record: alive.append(sum(ref() is not None for ref in seen)),
    )
    assert len(seen) >= 16
    assert set(alive) == {0}


def test_vectors_without_room_are_loaded_with_their_rows(monkeypatch):
    problem = problem_of()
    monkeypatch.setattr(placing, "VECTORS", 1e-9)
    lazily = problem.with_data(A=lazy(problem.A), b=lazy(problem.b, 700), w=lazy(problem.w, 700))
    blocks = place_here(check_dataset(lazily.A, lazily.b, lazily.w), False).blocks
    assert not any(isinstance(part, np.ndarray) for block in blocks for part in (block.b, block.w))
    assert_same(solve(lazily, persist=False), solve(problem, hessian="exact"))
    bad = problem.b.copy()
    bad[507] = np.nan
    with pytest.raises(ValueError, match=r"b contains NaN.*row 7 of block 1"):
        solve(lazily.with_data(b=lazy(bad, 700)), persist=False)


@pytest.mark.parametrize("rows", [(0, 4000), (2000, 0, 2000), 4000, (1, 3998, 1)], ids=str)
def test_empty_and_single_row_chunks(rows):
    problem = problem_of()
    streamed = solve(problem.with_data(A=lazy(problem.A, rows)), persist=False)
    assert_same(streamed, solve(problem, hessian="exact"))


def test_chunks_of_columns_and_of_unknown_length():
    problem = problem_of()
    expected = solve(problem, hessian="exact")
    grid = da.from_array(problem.A, chunks=(500, 2))
    unknown = lazy(problem.A)[lazy(np.ones(4000, dtype=bool))]
    assert np.isnan(unknown.shape[0])
    for A in (grid, unknown):
        assert_same(solve(problem.with_data(A=A), persist=False), expected)
    assert np.isnan(unknown.shape[0]), "the caller's array was changed"


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csc_array])
def test_sparse_chunks(form):
    problem = sparse()
    dense = lazy(problem.A.toarray(), 300)
    A = dense.map_blocks(form, dtype=float, meta=form((0, 8)))
    result = solve(problem.with_data(A=A), persist=False)
    assert_same(result, solve(problem, hessian="exact"))


# --- when ------------------------------------------------------------------------------


def test_what_fits_is_held_and_what_does_not_is_loaded(room):
    problem = synthetic(n=4000, d=6)
    A = lazy(problem.A)
    need = A.nbytes + problem.b.nbytes
    for nbytes, persist, kind in (
        (need, None, DenseBlock),
        (need - 1, None, LazyBlock),
        (need - 1, True, DenseBlock),
        (need, False, LazyBlock),
    ):
        room(nbytes)
        assert {type(block) for block in blocks_of(A, problem.b, persist)} == {kind}


def test_sparse_rows_are_measured(room):
    """By their first chunk: as dense rows they would not fit."""
    problem = sparse()
    A = lazy(problem.A, 250)
    blocks = blocks_of(A, problem.b, True)
    need = sum(block.nbytes for block in blocks)
    for nbytes, kind in ((int(1.3 * need), CsrBlock), (int(0.7 * need), LazyBlock)):
        room(nbytes)
        assert {type(block) for block in blocks_of(A, problem.b)} == {kind}
    estimated = sum(block.entries for block in blocks_of(A, problem.b))
    assert 0.8 < estimated / problem.A.nnz < 1.25


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_empty_chunks_of_unknown_length_are_no_measure(room, form):
    """The first chunk that has rows is."""
    problem = synthetic(n=4000, d=6)
    ends = [0, 0, *range(500, 4001, 500)]
    parts = [dask.delayed(form)(problem.A[start:stop]) for start, stop in pairwise(ends)]
    blocks = blocks_of(parts, problem.b, False)
    assert sum(block.entries for block in blocks) == problem.A.size
    room(sum(block.nbytes for block in blocks) - 1)
    assert {type(block) for block in blocks_of(parts, problem.b)} == {LazyBlock}


def test_a_chunk_that_is_too_large_is_named(room):
    problem = synthetic(n=4000, d=6)
    A = lazy(problem.A, (500, 3000, 500))
    room(3000 * 7 * 8)
    with pytest.raises(ValueError, match=r"chunk 1 of A.*3000 rows.*rechunk\(\{0: "):
        blocks_of(A, problem.b)


def test_chunks_that_share_work_are_refused():
    A = lazy(np.ones((2000, 3)), 10)
    with pytest.raises(ValueError, match="share work"):
        blocks_of(A - A.mean(axis=0), np.ones(2000), False)


def test_sources_are_small_and_made_quickly(tmp_path):
    """Their size grows with the number of chunks, and not with its square."""
    sizes, began = [], time.perf_counter()
    for chunks in (100, 1000):
        path = tmp_path / f"{chunks}.zarr"
        stored = zarr.create_array(path, shape=(chunks, 3), chunks=(1, 3), dtype="float32")
        A = da.from_zarr(stored) * 2.0 - 1.0
        sizes.append(sum(source.nbytes for source in chunk_sources("A", A, pickled=True)))
    assert time.perf_counter() - began < 10.0
    assert sizes[1] < 10.5 * sizes[0]
    assert sizes[1] < 10_000 * 1000


# --- what goes wrong ----------------------------------------------------------------


def test_a_source_that_fails_is_named():
    def load(block):
        raise FileNotFoundError("rows-3.bin")

    A = lazy(np.ones((40, 2)), 10).map_blocks(load, dtype=float, meta=np.empty((0, 2)))
    with pytest.raises(OSError, match=r"block \d of A could not be loaded.*rows-3\.bin"):
        dresoftmax.solve(A, np.full(40, 1 / 40), persist=False)


@pytest.mark.parametrize("flag", ["--persist", "--stream"])
def test_the_command_line_has_a_flag(tmp_path, flag):
    problem = synthetic(n=400)
    for name, values in (("A", problem.A), ("b", problem.b)):
        chunks = (100, *values.shape[1:])
        zarr.create_array(tmp_path / f"{name}.zarr", data=values, chunks=chunks)
    arguments = [str(tmp_path / name) for name in ("A.zarr", "b.zarr", "out.npz")]
    result = CliRunner().invoke(
        main, ["solve", *arguments[:2], "-o", arguments[2], "--quiet", flag]
    )
    assert result.exit_code == 0, result.output
    with np.load(arguments[2]) as saved:
        np.testing.assert_allclose(saved["x"], solve(problem).x, rtol=1e-5)


def test_persist_is_a_bool():
    with pytest.raises(TypeError, match="persist is 'yes'"):
        dresoftmax.solve(np.ones((3, 1)), np.ones(3) / 3, persist="yes")


# --- on a cluster ---------------------------------------------------------------------


@pytest.mark.parametrize("hessian", ["leverage", "countsketch", "auto"])
def test_workers_stream_too(client, hessian):
    problem = problem_of().with_data(A=lazy(problem_of().A))
    held, streamed = (
        solve(problem, persist=persist, **sketching(hessian)) for persist in (True, False)
    )
    assert_same(streamed, held, rtol=1e-7)
    if hessian != "auto":
        assert_reads_alike(streamed, held)


def test_workers_load_every_chunk_once_in_each_read(client, tmp_path):
    problem = problem_of()
    A = counted(problem.A, 500, tmp_path)
    result = solve(problem.with_data(A=A), persist=False)
    assert_same(result, solve(problem, hessian="exact"))
    full = sum(record.rows_read for record in result.history if record.phase == "full")
    assert loads(tmp_path) == [1 + full // 4000] * 8


def test_persisted_rows_of_another_layout_are_not_copied(client):
    problem = problem_of()
    A = lazy(problem.A).map_blocks(np.asfortranarray).persist()
    options = sketching("leverage")
    held = solve(problem.with_data(A=lazy(problem.A)), persist=True, **options)
    for persist in (None, False):  # it is in memory already
        assert_reads_alike(solve(problem.with_data(A=A), persist=persist, **options), held)
    with closing(place_on_workers(check_dataset(A, problem.b, None), client, None)) as engine:
        assert set(engine.reduce(_kinds)) == {"LazyBlock"}


def _kinds(blocks, threads):
    return [type(block).__name__ for block in blocks]


@pytest.mark.timeout(60)
def test_a_worker_that_is_killed_costs_time_and_nothing_else():
    problem = problem_of()
    expected = solve(problem, hessian="exact")
    with local_cluster(2) as client:
        victims = list(client.run(os.getpid).values())[:1]

        def kill(record):
            if victims and record.phase == "full":
                os.kill(victims.pop(), signal.SIGKILL)

        A = lazy(problem.A, 200)
        result = solve(problem.with_data(A=A), persist=False, client=client, callback=kill)
    assert not victims
    assert_same(result, expected)


def test_an_array_in_this_process_cannot_be_streamed_by_workers(client):
    problem = problem_of()
    with pytest.raises(ValueError, match="persist=False needs rows that workers can load"):
        solve(problem, client=client, persist=False)


def test_what_has_to_be_held_must_fit(client, room):
    problem = problem_of()
    room(1000)
    with pytest.raises(ValueError, match=r"worker\(s\) have .* together"):
        solve(problem.with_data(A=lazy(problem.A)), persist=True)
    with pytest.raises(ValueError, match="pass a dask array of files"):
        solve(problem, client=client)
    room(1_000_000)
    with pytest.raises(ValueError, match="the graph of A carries"):
        solve(problem.with_data(A=lazy(problem.A, 10)), persist=False)


def test_chunks_that_cannot_be_sent_are_refused(client):
    lock = threading.Lock()
    A = lazy(np.ones((40, 2)), 10).map_blocks(partial(_locked, lock), dtype=float)
    with pytest.raises(ValueError, match="cannot be loaded by workers"):
        dresoftmax.solve(A, np.full(40, 1 / 40), persist=False)


def _locked(lock, rows):
    return rows


def test_the_memory_of_the_cluster_is_that_of_its_workers(client):
    memory = memory_of(client)
    limits = client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit)
    assert memory.limits == tuple(limits.values())
    assert memory.room == sum(int(FILL * limit) - PROCESS for limit in limits.values())


def test_workers_without_a_limit_share_their_machine():
    hosts = {"a": ("one", 0), "b": ("one", 0), "c": ("two", 0), "d": ("two", 2 * GB)}

    class Scheduler:
        def scheduler_info(self, n_workers):
            keys = ("host", "memory_limit")
            return {"workers": {w: dict(zip(keys, v, strict=True)) for w, v in hosts.items()}}

        def run(self, function, workers):
            return dict.fromkeys(workers, 8 * GB)

    memory = memory_of(Scheduler())
    assert memory.limits == (4 * GB, 4 * GB, 8 * GB, 2 * GB)
    assert memory.least == int(FILL * 2 * GB) - PROCESS


def test_blocks_and_what_stands_for_them_travel(client):
    problem = problem_of()
    source = LazySource(4000, 24000, 192_000, GB, Rows(problem.A))
    deferred = LazyBlock(1, source, problem.b, problem.w)
    block = pickle.loads(pickle.dumps(deferred)).load()
    np.testing.assert_array_equal(block.A, problem.A)
