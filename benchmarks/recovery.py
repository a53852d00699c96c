"""The suite of recovery: how exactly a query is found from its attention distribution.

A query q gives to the keys of its head the weights b = softmax(Aq).  They are disturbed
(`disturb.py`), each query is recovered from them, and compared with q:

    error       ‖x − q‖/‖q‖
    rms_error   √(Var(A(x − q))/Var(Aq)) over the rows: the error of the scores
    cosine      of x and q
    tv          ½Σ|softmax(Ax) − softmax(Aq)|: the error of the distribution

The other methods are those of `models.py`: the largest likelihood, and least squares of log b,
also weighted by b, which use only rows with b > 0.  `exp, kept` is dresoftmax on rows with
b > 0: that is the right problem if other rows were cut off.

The context grows by nested random subsets of the keys, each with the distribution
over its own rows.  A row of the table holds the medians over the queries of a head, and
the time of one query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from agreement import total_variation
from disturb import (
    Disturbance,
    bfloat16,
    counted,
    exact,
    float16,
    integers,
    noisy,
    truncated,
)  # fmt: skip
from measure import Row, cell
from models import Fit, dresoftmax_fit, kept_only, likelihood, log_linear, softmax
from problems import attention_heads
from recovery_plot import draw, medians

__all__ = ["SHOWN", "draw", "measure", "summary"]

KEPT = "exp, kept"
METHODS: dict[str, Callable[[np.ndarray, np.ndarray], Fit]] = {
    "log-linear": log_linear,
    "log-linear, weighted": partial(log_linear, weighted=True),
    "likelihood": likelihood,
    "exp": dresoftmax_fit,
    KEPT: kept_only,
}
SHOWN = (
    "head", "n", "disturbed", "level", "method", "error", "worst_error", "rms_error", "cosine",
    "tv", "reads", "seconds", "queries", "converged",
)  # fmt: skip
CONTEXTS = (1_000, 3_000, 10_000, 30_000)
# Disturbances that are also tried on smaller contexts.
GROWN = (("noise", 1e-2), ("counts", 10**4), ("counts", 10**6), ("rounding", "float16"))


def disturbances(full: bool) -> Iterator[tuple[str, object, Disturbance]]:
    """Yield kind, level and function of each disturbance."""
    yield "none", "float64", exact
    for level in (1e-4, 1e-2, 0.1, 1.0) if full else (1e-2, 1.0):
        yield "noise", level, partial(noisy, level=level)
    for draws in (10**3, 10**4, 10**5, 10**6, 10**7) if full else (10**4, 10**6):
        yield "counts", draws, partial(counted, draws=draws)
    for kept in (100, 1_000, 10_000) if full else (1_000,):
        yield "top", kept, partial(truncated, kept=kept)
    yield "rounding", "bfloat16", bfloat16
    yield "rounding", "float16", float16
    for bits in (8, 16) if full else (8,):
        yield "rounding", f"{bits}-bit", partial(integers, bits=bits)


def measure(full: bool, folder: Path | None = None) -> list[Row]:
    """Return a row for each head, disturbance, context and method."""
    rng = np.random.default_rng(0)
    for method in METHODS.values():  # compiles
        method(rng.standard_normal((100, 2)), np.full(100, 0.01))
    rows = []
    for name, head in attention_heads(folder):
        A = head.problem()[0]
        queries = head.queries[: None if full else 2].astype(float)
        order = rng.permutation(len(A))
        for n in [len(A), *(n for n in CONTEXTS if n < len(A))]:
            part = A[np.sort(order[:n])]
            for kind, level, disturb in disturbances(full):
                if n == len(A) or (kind, level) in GROWN:
                    found = recovered(part, queries, disturb)
                    about = {"head": name, "n": n, "disturbed": kind, "level": level}
                    rows += [about | row for row in found]
    return rows


def recovered(A: np.ndarray, queries: np.ndarray, disturb: Disturbance) -> list[Row]:
    """Return a row for each method: medians over the queries."""
    true = [softmax(A @ q) for q in queries]
    given = [disturb(b, np.random.default_rng(i)) for i, b in enumerate(true)]
    rows = []
    for name, method in METHODS.items():
        if name == KEPT and all((b > 0.0).all() for b in given):
            continue  # the same as "exp"
        fits = [method(A, b) for b in given]
        judged = [error_of(A, fit.x, q, b) for fit, q, b in zip(fits, queries, true, strict=True)]
        rows.append(
            {
                "method": name,
                **{key: float(np.median([row[key] for row in judged])) for key in judged[0]},
                "worst_error": max(row["error"] for row in judged),
                "reads": float(np.median([fit.reads for fit in fits])),
                "seconds": float(np.median([fit.seconds for fit in fits])),
                "queries": len(fits),
                "converged": sum(fit.status in ("", "CONVERGED") for fit in fits),
            }
        )
    return rows


def error_of(A: np.ndarray, x: np.ndarray, q: np.ndarray, b: np.ndarray) -> Row:
    """Return how far x is from the query, and its distribution from the true one."""
    return {
        "error": float(np.linalg.norm(x - q) / np.linalg.norm(q)),
        "rms_error": float(np.std(A @ (x - q)) / np.std(A @ q)),
        "cosine": float(x @ q / (np.linalg.norm(x) * np.linalg.norm(q))),
        "tv": total_variation(softmax(A @ x), b),
    }


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the median error of each method over the heads, and what grows with the context."""
    most = max(row["n"] for row in rows)
    lines = []
    for kind, level in dict.fromkeys((row["disturbed"], row["level"]) for row in rows):
        found = medians(rows, kind, level)
        each = "; ".join(f"{method} {error:.2g}" for method, error in found[most].items())
        lines.append(f"{kind} {cell(level)}, n = {most:,}, median error: {each}")
    for kind, level in GROWN:
        found = medians(rows, kind, level)
        if len(found) > 1:
            first, last = min(found), max(found)
            each = "; ".join(
                f"{method} {found[first][method]:.2g} to {found[last][method]:.2g}"
                for method in found[first]
                if method in found[last]
            )
            lines.append(f"{kind} {cell(level)}, from {first:,} to {last:,} keys: {each}")
    return lines
