"""Blocks loaded ahead of their use, and arrays in this process that are not copied as a whole.

Memory is measured by the tracing of Python's allocations, which NumPy reports to.
"""

from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest
from helpers.loaded import GB, assert_same, blocks_of, solve
from helpers.problems import synthetic

from dresoftmax.blocks.dense import DenseBlock
from dresoftmax.blocks.lazy import LazyBlock, LazySource, Rows
from dresoftmax.blocks.prefetch import map_loaded
from dresoftmax.engines.memory import memory_here
from dresoftmax.placement import local as placing

pytestmark = pytest.mark.usefixtures("samples")


# --- loading ahead ---------------------------------------------------------------------


def made(count, room, load=lambda i: None):
    """Return blocks of one row of 8 bytes of A, each of which calls `load` first."""

    class Watched(Rows):
        def __init__(self, i):
            super().__init__(np.full((1, 1), float(i)))
            self.i = i

        def __call__(self):
            load(self.i)
            return super().__call__()

    sources = [LazySource(1, 1, 8, room, Watched(i)) for i in range(count)]
    return [LazyBlock(i, source, np.ones(1), None) for i, source in enumerate(sources)]


def test_the_next_block_is_loaded_while_one_is_computed():
    """With a single thread, too: else the first block would wait for ever."""
    second = threading.Event()
    blocks = made(4, GB, lambda i: second.set() if i == 1 else None)
    waited = map_loaded(lambda block: second.wait(20.0) and block.index, blocks, threads=1)
    assert list(waited) == [0, 1, 2, 3]


@pytest.mark.parametrize(("nbytes", "most"), [(GB, 4), (2 * 16, 2), (1, 1)])
def test_no_more_blocks_are_loaded_than_there_is_room_for(nbytes, most):
    lock, now, peak = threading.Lock(), [0], [0]

    def load(i):
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])

    def use(block):
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return block.index

    assert list(map_loaded(use, made(20, nbytes, load), threads=3)) == list(range(20))
    assert peak[0] == most


# --- arrays in this process ---------------------------------------------------------

LAYOUTS = {
    "Fortran": np.asfortranarray,
    "columns": lambda A: np.repeat(A, 2, axis=1)[:, ::2],
    "rows": lambda A: np.repeat(A, 2, axis=0)[::2],
    "reversed": lambda A: A[::-1].copy()[::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_other_layouts_are_read_without_a_copy_of_all(monkeypatch, layout):
    problem = synthetic(n=500_000, d=8)
    expected = solve(problem, hessian="exact")
    A = layout(problem.A)
    assert not A.flags.c_contiguous
    monkeypatch.setattr(placing, "PANEL", A.nbytes // 50)
    tracemalloc.start()
    try:
        result = solve(problem.with_data(A=A), hessian="exact")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_same(result, expected)
    assert peak < 0.6 * A.nbytes, "with the sample, and the buffers of three reads"


def test_a_file_in_memory_is_converted_where_that_fits(room, tmp_path):
    problem = synthetic(n=4000, d=6)
    path = tmp_path / "A.npy"
    np.save(path, problem.A.astype(np.float16))
    A = np.load(path, mmap_mode="r")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(placing, "PANEL", 8192)
        answers = []
        for nbytes, kind in ((GB, DenseBlock), (4 * A.size - 1, LazyBlock)):
            room(nbytes)
            assert {type(block) for block in blocks_of(A, problem.b)} == {kind}
            answers.append(solve(problem.with_data(A=A), hessian="exact"))
    assert_same(*answers)


def test_a_mapped_file_of_the_kernels_layout_is_read_in_place(room, tmp_path):
    problem = synthetic(n=4000, d=6)
    np.save(tmp_path / "A.npy", problem.A)
    A = np.load(tmp_path / "A.npy", mmap_mode="r")
    room(1)
    (block,) = blocks_of(A, problem.b)
    assert np.shares_memory(block.A, A)
    assert block.A.flags.writeable, "kernels would be compiled anew"


def test_the_memory_of_this_process_is_what_is_free():
    memory = memory_here()
    assert 0 < memory.room < memory.limits[0]
