"""Time and memory as n grows.

    python benchmarks/growth.py [--full]

- read: the time of a read as n doubles, the shortest of some;
- memory: the most memory that a worker and the client held in a solve, in
  processes of their own, against a worker's share of A × 1.1 + 400 MB;
- large (with ``--full``): a solve with n = 100,000,000, d = 32 in float32, which are
  12.8 GB, made by the workers.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
from workers import CONTEXT, cluster, matrix, placed, print_table, read, seconds_to_read, target

import dresoftmax

D = 32
WORKERS = 2
CHUNK = 500_000
# What a worker may hold: its share of A, a tenth more, and this for everything else.
ALLOWANCE = 400e6


def measure(full: bool) -> list[dict[str, object]]:
    """Return a row for each n; with `full` up to 100,000,000."""
    rows = doubling([250_000 * 2**i for i in range(6 if full else 4)])
    rows += [memory("memory", n, np.float64) for n in (1_000_000, 2_000_000, *[8_000_000] * full)]
    if full:
        rows.append(memory("large", 100_000_000, np.float32))
    return [{**row, **CONTEXT} for row in rows]


def doubling(sizes: list[int]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    before = None
    with cluster(WORKERS) as client:
        for n in sizes:
            with placed(client, matrix(n, D, chunks=2 * WORKERS)) as engine:
                seconds, inside, _ = seconds_to_read(engine, read(D, "exact"), 9, np.min)
            row = {"case": "read", "n": n, "seconds": seconds, "seconds_inside": inside}
            if before is not None:
                row |= {"ratio": seconds / before[0], "ratio_inside": inside / before[1]}
            before = seconds, inside
            rows.append(row)
    return rows


def memory(case: str, n: int, dtype: type) -> dict[str, object]:
    """Solve in fresh workers, and return what was reached and what it took."""
    A = matrix(n, D, chunks=-(-n // CHUNK), dtype=dtype)
    b = target(A, noise=0.5)
    gc.collect()
    start_peak()
    before = resident("VmRSS")
    with cluster(WORKERS) as client:
        began = time.perf_counter()
        result = dresoftmax.solve(A, b, seed=0, client=client)
        seconds = time.perf_counter() - began
        peaks = list(client.run(resident, "VmHWM").values())
        norm = float(da.linalg.norm(b).compute())
    limit = 1.1 * A.nbytes / WORKERS + ALLOWANCE
    full = [record.seconds for record in result.history if record.phase == "full"]
    return {
        "case": case,
        "n": n,
        "dtype": np.dtype(dtype).name,
        "status": result.status.name,
        "loss": result.fun / norm**2,
        "decrement": result.decrement / norm,
        "data_passes": result.data_passes,
        "seconds": seconds,
        "seconds_per_read": float(np.diff(full).mean()) if len(full) > 1 else float("nan"),
        "A_GB": A.nbytes / 1e9,
        "worker_GB": max(peaks) / 1e9,
        "allowed_GB": limit / 1e9,
        "worker_over_allowed": max(peaks) / limit,
        "client_GB": (resident("VmHWM") - before) / 1e9,
    }


def start_peak() -> None:
    """Reset the peak memory of this process (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident(field: str) -> int:
    """Return the bytes of memory that this process holds, or held at most (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    print_table("As n grows", measure("--full" in sys.argv))
