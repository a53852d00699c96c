"""Solve from Python on the cluster of a recipe, with data made on its workers.

    python cluster/local.py                     on this machine
    python cluster/local.py cluster/slurm.yaml  on the cluster of another recipe

A is random with 2,000,000 rows and 20 columns (320 MB), and b = f(x) for a known x, so the
solve has to return that x.  No process ever holds all of A.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dask.array as da
import numpy as np

import dresoftmax
from dresoftmax.launch import open_cluster

ROWS, COLUMNS, BLOCK = 2_000_000, 20, 100_000


def main(spec: Path) -> None:
    """Start the cluster, make the data, solve and compare."""
    rng = np.random.default_rng(0)
    x_true = rng.standard_normal(COLUMNS) / np.sqrt(COLUMNS)
    with open_cluster(spec):
        A = da.random.default_rng(0).standard_normal((ROWS, COLUMNS), chunks=(BLOCK, COLUMNS))
        A = A.persist()
        z = A @ x_true
        u = np.exp(z) + z
        b = u / u.sum()

        result = dresoftmax.solve(A, b, seed=0, progress=True)

    print(result.message)
    print(f"max |x - x_true| = {np.abs(result.x - x_true).max():.1e}")
    print(f"A was read {result.data_passes:.2f} times")


# Worker processes import this file, and must not start clusters of their own.
if __name__ == "__main__":
    main(Path(*sys.argv[1:2] or [__file__]).with_suffix(".yaml"))
