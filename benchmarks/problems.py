"""The problems that are measured: real attention, and synthetic data of known shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dresoftmax.datasets import AttentionHead, load_attention

CONDITIONS = (1.0, 1e2, 1e4)
# Relative noise on each entry of b.
MILD, STRONG = 0.1, 1.0


@dataclass(frozen=True, eq=False)
class Problem:
    """Data, and the unit that they are fitted with."""

    name: str
    A: np.ndarray
    b: np.ndarray
    unit: str


def attention_heads(folder: Path | None = None) -> Iterator[tuple[str, AttentionHead]]:
    """Yield name, keys and queries of each attention head.

    Without a folder they are of the sample in the package, with one of its files
    ``keys_NAME.npy`` and ``queries_NAME.npy``: one head each, as recorded.
    """
    if folder is None:
        yield "sample", load_attention()
        return
    for keys in sorted(folder.glob("keys_*.npy")):
        queries = keys.with_name(keys.name.replace("keys_", "queries_", 1))
        name = keys.stem.removeprefix("keys_")
        yield name, AttentionHead(np.load(keys), np.load(queries))


def attention(unit: str, folder: Path | None = None) -> Iterator[Problem]:
    """Yield the problem of each query of each attention head."""
    for name, head in attention_heads(folder):
        for query in range(len(head.queries)):
            yield Problem(f"attention-{name}-{query}", *head.problem(query), unit)


def synthetic(n: int, d: int, cond: float, noise: float, dtype: type = np.float64) -> Problem:
    """Return centred Gaussian rows with a given condition number, and a noisy target.

    b is f(x) for an x with Var(Ax) = 1, each entry times 1 + noise·N(0, 1), made
    positive and normalised.
    """
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, d)) @ np.diag(np.geomspace(1.0, 1.0 / cond, d))
    A = A @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    A -= A.mean(axis=0)
    x = np.linalg.lstsq(A[: 20 * d], rng.standard_normal(20 * d), rcond=None)[0]
    x /= np.std(A @ x)
    z = A @ x
    b = np.exp(z) + z
    b = np.abs(b * (1.0 + noise * rng.standard_normal(n)))
    name = f"synthetic-{n}x{d}-cond{cond:g}-noise{noise:g}"
    if dtype is not np.float64:
        name += f"-{np.dtype(dtype).name}"
    return Problem(name, A.astype(dtype), b / b.sum(), "exp+linear")


def synthetic_grid(n: int, d: int) -> Iterator[Problem]:
    """Yield problems of one size, over condition numbers and noise."""
    for cond in CONDITIONS:
        for noise in (MILD, STRONG):
            yield synthetic(n, d, cond, noise)
