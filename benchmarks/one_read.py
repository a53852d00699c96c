"""What one read costs beside the least that it could: summing A, A @ x, dsyrk.

    python benchmarks/one_read.py [--full]

The data lie in memory and are larger than the caches; both sides of a ratio take
turns in one process, and the shortest time of each counts.  Targets are those of
two cores that share one memory.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.linalg.blas
import scipy.sparse
from threadpoolctl import threadpool_limits

from dresoftmax.blocks.base import Block
from dresoftmax.blocks.make import make_block
from dresoftmax.fit.hessian_policy import choose_hessian
from dresoftmax.model.units import UNITS
from dresoftmax.optimize.objective import PROBES
from dresoftmax.reductions.evaluate import evaluate_blocks
from dresoftmax.reductions.query import Query, Sketch
from dresoftmax.reductions.totals import read_totals

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COLUMNS = (32, 100, 500)
DTYPES = (np.float64, np.float32)
# Points of a read with candidates, as `trust_region` proposes them.
CANDIDATES = 3
# Rows of a product whose rate counts as that of dsyrk.
LONG = 1 << 13


def measure(full: bool) -> list[dict[str, object]]:
    """Return a row for each case; without `full` for less data and with fewer repeats."""
    nbytes, repeats = (1_600_000_000, 15) if full else (400_000_000, 5)
    rows = []
    with ThreadPoolExecutor(CORES) as pool:
        for d in COLUMNS:
            for dtype in DTYPES:
                A = gaussian(nbytes // (d * np.dtype(dtype).itemsize), d, dtype)
                rows += list(against_the_sum(A, pool, repeats))
                del A
        rows.append(sparse_gradient(1_000_000 if full else 500_000, pool, repeats))
        rows.append(exact_hessian(100_000 if full else 20_000, repeats))
        rows.append(many_blocks(nbytes, repeats))
    return rows


def gaussian(n: int, d: int, dtype: type) -> np.ndarray:
    """Return Gaussian rows: some, repeated, because drawing them takes long."""
    some = np.random.default_rng(0).standard_normal((min(n, 4_000_000 // d), d), dtype=dtype)
    return np.resize(some, (n, d))


def query(n: int, d: int, points: int, sketch: Sketch) -> Query:
    """Return a query near x = 0, with this number of points."""
    x = 0.1 / math.sqrt(d) * np.random.default_rng(1).standard_normal((points, d))
    return Query(x, np.full(points, math.log(n)), np.zeros(points), UNITS["exp+linear"], sketch)


def leverage(blocks: list[Block], d: int) -> Sketch:
    """Return a sketch of the size that the solver takes on n dense Gaussian rows.

    D is near 4/n² there, so that the Hessian is near 4/n times the identity.
    """
    totals = read_totals(blocks, 1)
    n = totals.n
    _, m, _ = choose_hessian("leverage", None, totals, d, False)
    probes = np.random.default_rng(2).standard_normal((PROBES, d)) * math.sqrt(n / PROBES) / 2
    return Sketch("leverage", 0.5 * m / n, 0.5 * m / d, probes)


def alternate(repeats: int, *calls: Callable[[], object]) -> list[float]:
    """Return the shortest time of each call, after one of each to warm up."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, seconds in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return [min(seconds[1:]) for seconds in times]


def row(
    case: str, d: int, dtype: type, what: str, seconds: float, base: str, base_seconds: float,
    target: float,
) -> dict[str, object]:  # fmt: skip
    return {
        "case": case,
        "d": d,
        "dtype": np.dtype(dtype).name,
        "what": what,
        "seconds": seconds,
        "base": base,
        "base_seconds": base_seconds,
        "ratio": seconds / base_seconds,
        "target": target,
    }


def against_the_sum(
    A: np.ndarray, pool: ThreadPoolExecutor, repeats: int
) -> Iterator[dict[str, object]]:
    """Measure reads of dense rows against one sum of A by all cores."""
    n, d = A.shape
    blocks = [make_block(0, A, np.full(n, 1.0 / n), None)]
    parts = np.array_split(A, CORES)
    sketch = leverage(blocks, d)
    reads = {
        ("gradient", "1 point", 1.5): query(n, d, 1, Sketch()),
        ("leverage", "1 point", 2.2): query(n, d, 1, sketch),
        ("leverage", f"{CANDIDATES} points", 2.2): query(n, d, CANDIDATES, sketch),
    }
    calls = [lambda each=each: evaluate_blocks([each], blocks, CORES) for each in reads.values()]
    base, *times = alternate(repeats, lambda: list(pool.map(np.sum, parts)), *calls)
    for (case, what, target), seconds in zip(reads, times, strict=True):
        yield row(case, d, A.dtype.type, f"{n} rows, {what}", seconds, "sum of A", base, target)


def sparse_gradient(n: int, pool: ThreadPoolExecutor, repeats: int) -> dict[str, object]:
    """Measure a gradient of sparse rows against SciPy's A @ x on all cores."""
    d, width = 2_000, 40
    rng = np.random.default_rng(0)
    indices = np.sort(rng.integers(0, d // width, (n, width), dtype=np.int32), axis=1)
    indices = np.arange(width, dtype=np.int32) * np.int32(d // width) + indices
    data = np.resize(rng.standard_normal(1_000_000), n * width)
    indptr = np.arange(n + 1, dtype=np.int32) * np.int32(width)
    A = scipy.sparse.csr_array((data, indices.ravel(), indptr), shape=(n, d))
    blocks = [make_block(0, A, np.full(n, 1.0 / n), None)]
    parts = [A[rows[0] : rows[-1] + 1] for rows in np.array_split(np.arange(n), CORES)]
    each = query(n, d, 1, Sketch())
    base, seconds = alternate(
        repeats,
        lambda: list(pool.map(lambda part: part @ each.points[0], parts)),
        lambda: evaluate_blocks([each], blocks, CORES),
    )
    what = f"{n} rows, {width} non-zeros each"
    return row("sparse gradient", d, np.float64, what, seconds, "A @ x", base, 2.5)


def exact_hessian(n: int, repeats: int) -> dict[str, object]:
    """Measure an exact Hessian against dsyrk at its best, with as many rows for a core.

    SciPy's dsyrk holds the interpreter's lock, so that only one core is timed.
    """
    d = 500
    A = gaussian(n, d, np.float64)
    blocks = [make_block(0, A, np.full(n, 1.0 / n), None)]
    each = query(n, d, 1, Sketch("exact"))
    rows = np.asfortranarray(A[:LONG].T)

    def product() -> None:
        with threadpool_limits(1, user_api="blas"):
            scipy.linalg.blas.dsyrk(1.0, rows)

    base, seconds = alternate(repeats, product, lambda: evaluate_blocks([each], blocks, CORES))
    base *= n / CORES / LONG
    return row("exact Hessian", d, np.float64, f"{n} rows", seconds, "dsyrk", base, 1 / 0.7)


def many_blocks(nbytes: int, repeats: int) -> dict[str, object]:
    """Measure a gradient from 1,000 blocks against one of the same rows in two."""
    d = 32
    A = gaussian(nbytes // (8 * d), d, np.float64)
    b = np.full(len(A), 1.0 / len(A))

    def cut(count: int) -> list[Block]:
        parts = zip(np.array_split(A, count), np.array_split(b, count), strict=True)
        return [make_block(i, *part, None) for i, part in enumerate(parts)]

    few, many = cut(2), cut(1_000)
    each = query(len(A), d, 1, Sketch())
    base, seconds = alternate(
        repeats,
        lambda: evaluate_blocks([each], few, CORES),
        lambda: evaluate_blocks([each], many, CORES),
    )
    what = f"{len(A)} rows in 1000 blocks"
    return row("blocks", d, np.float64, what, seconds, "in 2 blocks", base, 1.2)


def main() -> None:
    """Measure, and print a plain table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="more data, more repeats")
    print(f"{'case':16}{'d':>5}  {'dtype':8}{'ratio':>7}{'target':>8}{'ms':>9}  of what")
    for each in measure(parser.parse_args().full):
        print(
            f"{each['case']:16}{each['d']:5}  {each['dtype']:8}{each['ratio']:7.2f}"
            f"{each['target']:8.2f}{1e3 * float(str(each['seconds'])):9.2f}"
            f"  {each['what']}, against {each['base']}"
        )


if __name__ == "__main__":
    main()
