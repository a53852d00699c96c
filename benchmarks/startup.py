"""The suite of starting up: imports, the first solve of a process, and a small solve.

Imports and first solves are measured in fresh interpreters, with the kernels in Numba's
cache.  The median counts.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from statistics import median

from measure import Row

DASK = "import dask.array, distributed"
IMPORTS = {
    DASK: DASK,
    "the same, and dresoftmax": f"{DASK}; import dresoftmax",
    "the same, and dresoftmax.solve": f"{DASK}; from dresoftmax import solve",
    "import dresoftmax": "import dresoftmax",
    "from dresoftmax import solve": "from dresoftmax import solve",
}
SOLVE, WARM = "first solve of a process, 1,000 × 5", "later solves, 1,000 × 5"
IMPORT = """
import time
began = time.perf_counter()
{statement}
print(time.perf_counter() - began)
"""
SOLVES = """
import time
import numpy as np
from dresoftmax import solve
rng = np.random.default_rng(0)
A = rng.standard_normal((1000, 5))
b = np.exp(A @ rng.standard_normal(5) / 2)
b *= 1 + 0.1 * rng.standard_normal(1000)
b /= b.sum()
for _ in range(20):
    began = time.perf_counter()
    assert solve(A, b, seed=0).success
    print(time.perf_counter() - began)
"""

SHOWN = ("what", "seconds", "least", "most", "processes")


def measure(full: bool) -> list[Row]:
    """Return a row for each import, for the first solve of a process and for later ones."""
    repeats = 15 if full else 5
    _run(SOLVES)  # fills the cache
    times: dict[str, list[float]] = {name: [] for name in IMPORTS} | {SOLVE: [], WARM: []}
    for _ in range(repeats):  # taking turns
        for name, statement in IMPORTS.items():
            times[name] += _run(IMPORT.format(statement=statement))
        first, *later = _run(SOLVES)
        times[SOLVE].append(first)
        times[WARM].append(median(later))
    return [
        {
            "what": name,
            "seconds": median(seconds),
            "least": min(seconds),
            "most": max(seconds),
            "processes": repeats,
        }
        for name, seconds in times.items()
    ]


def _run(program: str) -> list[float]:
    """Return the numbers that a program prints in a fresh interpreter."""
    output = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=120)
    return [float(line) for line in output.splitlines()]


def summary(rows: Sequence[Row]) -> list[str]:
    """Return what importing dresoftmax adds, and the time of a small solve."""
    seconds = {row["what"]: row["seconds"] for row in rows}
    base = seconds[DASK]
    return [
        f"import dresoftmax adds {1e3 * (seconds['the same, and dresoftmax'] - base):.0f} ms to "
        "Dask's imports (target 150), with everything that solving needs "
        f"{1e3 * (seconds['the same, and dresoftmax.solve'] - base):.0f} ms",
        f"1,000 × 5: {1e3 * seconds[WARM]:.1f} ms once warm (target 10), "
        f"{1e3 * seconds[SOLVE]:.0f} ms as the first solve of a process",
    ]
