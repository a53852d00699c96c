"""How often 95 % intervals hold the true coefficients, over errors and kinds of covariance.

    python benchmarks/run.py --only intervals [--full]

Rows of A are bounded (uniform) or Gaussian, whose exponentials give few rows much of the
weight.  Errors are independent, of equal size or in proportion to f, and b is left
as it is or divided by its sum.  Each replication is a target of one solve.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from itertools import product

import numpy as np

import dresoftmax

X = np.array([0.6, -0.4, 0.2])
# Of the mean of f, or of f itself.
NOISE = 0.3
LEVEL = 0.95
UNITS = {"exp+linear": lambda z: np.exp(z) + z, "exp": np.exp}
ROWS = {
    "bounded": lambda rng, n: rng.uniform(-math.sqrt(3), math.sqrt(3), (n, len(X))),
    "Gaussian": lambda rng, n: rng.standard_normal((n, len(X))),
}
KINDS = ("sandwich", "gauss-newton")
SHOWN = ["unit", "rows", "n", "errors", "b", "kind", "coverage", "least", "size", "failed"]


def measure(full: bool) -> list[dict[str, object]]:
    """Return a row for each kind of covariance of each problem."""
    sizes, replications = ((400, 3_200), 600) if full else ((400,), 400)
    problems = product(UNITS, ROWS, sizes, ("equal", "relative"), ("as it is", "divided"))
    return [row for problem in problems for row in simulate(*problem, replications)]


def simulate(
    unit: str, rows: str, n: int, errors: str, b: str, replications: int
) -> Iterator[dict[str, object]]:
    """Yield for each kind: coverage, and estimated over observed standard deviation."""
    rng = np.random.default_rng(0)
    A = ROWS[rows](rng, n)
    A -= A.mean(axis=0)
    u = UNITS[unit](A @ X)
    f = u / u.sum()
    deviation = NOISE * (np.abs(f) if errors == "relative" else np.full(n, 1.0 / n))
    B = f[:, None] + deviation[:, None] * rng.standard_normal((n, replications))
    if b == "divided":
        B /= B.sum(axis=0)
    with warnings.catch_warnings():
        # About sums of b, which are intended, and about fits that did not converge, which count.
        warnings.filterwarnings("ignore", category=UserWarning)
        result = dresoftmax.solve(A, B, unit=unit, x0=X, hessian="exact", seed=0)
        for kind in KINDS:
            found = dresoftmax.covariance(A, B, result, unit=unit, kind=kind)
            ends = np.array([each.confidence_interval(LEVEL) for each in found])
            covered = np.mean((ends[..., 0] <= X) & (ends[..., 1] >= X), axis=0)
            stated = np.median([each.standard_errors for each in found], axis=0)
            yield {
                "unit": unit,
                "rows": rows,
                "n": n,
                "errors": errors,
                "b": b,
                "kind": kind,
                "replications": replications,
                "coverage": float(covered.mean()),
                "least": float(covered.min()),
                "size": float(np.mean(stated / result.x.std(axis=1))),
                "failed": sum(not fit.success for fit in result),
            }


def summary(rows: list[dict[str, object]]) -> Iterator[str]:
    """Say what each kind covers, for errors that it assumes and for others."""
    noise = math.sqrt(LEVEL * (1.0 - LEVEL) / float(rows[0]["replications"]))
    yield (
        "coverage: share of 95 % intervals that hold the true coefficient, the mean over the "
        f"coefficients and the least; one of {noise:.3f} is chance"
    )
    yield "size: stated standard error (median) over the standard deviation of the estimates"
    for kind, errors, shape in product(KINDS, ("equal", "relative"), ROWS):
        shares = [
            row["coverage"]
            for row in rows
            if (row["kind"], row["errors"], row["rows"]) == (kind, errors, shape)
        ]
        yield (f"{kind}, {errors} errors, {shape} rows: {min(shares):.3f} to {max(shares):.3f}")
