"""The suite of fits: the unified unit, softmax and plain models on real distributions.

Distributions: `own`, the weights that a query gives to the keys of its attention head (softmax
is true by construction); `other`, the weights of one head over the keys of another that reads
the same tokens, and `mean`, the mean weights of all queries of a head (no model is true);
`cars` and `year`, market shares in all years and in one (`markets.py`).

Each model (`models.py`) is fitted to all rows, and then, several times, to a random 70 % of
them, with b scaled to sum to one over these; the columns `out_…` judge its shares of the
other rows, both scaled to sum to one over those.  The unified unit is fitted to the columns as
they come, to centred ones, and to centred ones with an added constant, which change the
fit of the unified unit and not that of softmax.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from agreement import agreement
from fit_plot import draw
from markets import installed, markets
from measure import Row
from models import Fit, dresoftmax_fit, likelihood, linear, log_linear, uniform
from problems import attention_heads

__all__ = ["SHOWN", "draw", "measure", "summary"]

SHARE = 0.7
MODELS: dict[str, Callable[[np.ndarray, np.ndarray], Fit]] = {
    "uniform": uniform,
    "linear": linear,
    "log-linear": log_linear,
    "likelihood": likelihood,
    "exp": dresoftmax_fit,
    "exp+linear": partial(dresoftmax_fit, unit="exp+linear"),
    "exp+linear, centred": partial(dresoftmax_fit, unit="exp+linear", centred=True),
    "exp+linear, constant": partial(dresoftmax_fit, unit="exp+linear", centred=True, constant=True),
    "exp+linear, rescaled": partial(dresoftmax_fit, unit="exp+linear", centred=True, rescaled=True),
    "cosh": partial(dresoftmax_fit, unit="cosh"),
    "sinh": partial(dresoftmax_fit, unit="sinh"),
}
# How the unified unit gets its columns.
UNIFIED = {
    "exp+linear": "columns as they come",
    "exp+linear, centred": "centred",
    "exp+linear, constant": "and a constant",
}
MEANT = ("uniform", "linear", "exp", *UNIFIED, "exp+linear, rescaled", "cosh", "sinh")
# Losses that are closer to each other than this, relatively, count as the same.
MARGIN = 1e-3
SHOWN = (
    "problem", "n", "d", "model", "loss", "tv", "kl", "correlation", "negative", "out_loss",
    "out_tv", "out_kl", "out_correlation", "reads", "seconds", "status",
)  # fmt: skip


def problems(full: bool, folder: Path | None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield group-name, A and b."""
    heads = dict(attention_heads(folder))
    A = {name: head.problem()[0] for name, head in heads.items()}
    for name, head in heads.items():
        weights = [head.problem(query)[1] for query in range(len(head.queries))]
        yield f"mean-{name}", A[name], np.mean(weights, axis=0)
        for query, b in enumerate(weights if full else weights[:2]):
            yield f"own-{name}-{query}", A[name], b
            for other in heads:
                if other != name:
                    yield f"other-{name}-{query}-{other}", A[other], b
    yield from markets(full)


def measure(full: bool, folder: Path | None = None) -> list[Row]:
    """Return a row for each distribution and model."""
    rng = np.random.default_rng(0)
    for model in MODELS.values():  # compiles
        model(rng.standard_normal((100, 2)), np.full(100, 0.01))
    rows = []
    for name, A, b in problems(full, folder):
        small = len(A) < 10_000
        splits = (10 if small else 2) if full else (3 if small else 1)
        rows += [judged(name, A, b, model, splits) for model in MODELS]
    return rows


def judged(name: str, A: np.ndarray, b: np.ndarray, model: str, splits: int) -> Row:
    """Return how one model fits one distribution, and rows that it has not seen."""
    fitted = MODELS[model](A, b)
    unseen = []
    for split in range(splits):
        rng = np.random.default_rng([zlib.crc32(name.encode()), split])
        chosen = rng.random(len(A)) < SHARE
        part = MODELS[model](A[chosen], b[chosen] / b[chosen].sum())
        rest = b[~chosen] / b[~chosen].sum()
        unseen.append(agreement(part.shares(A[~chosen]), rest))
    return {
        "group": name.split("-")[0],
        "problem": name,
        "n": len(A),
        "d": A.shape[1],
        "model": model,
        **agreement(fitted.shares(A), b),
        **{f"out_{key}": float(np.mean([row[key] for row in unseen])) for key in unseen[0]},
        "splits": splits,
        "reads": fitted.reads,
        "seconds": fitted.seconds,
        "status": fitted.status,
    }


def summary(rows: Sequence[Row]) -> list[str]:
    """Return the mean loss of each model in each group, and who is closer than softmax."""
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        found = {model: [r for r in members if r["model"] == model] for model in MODELS}
        for words, key in (("", "loss"), (", rows not seen", "out_loss")):
            means = "; ".join(f"{model} {mean(found[model], key):.3g}" for model in MEANT)
            lines.append(f"{group}{words}, mean loss/‖b‖²: {means}")
        wins = ", ".join(
            f"{closer(found[model], found['exp'], 'loss')} and "
            f"{closer(found[model], found['exp'], 'out_loss')} ({how})"
            for model, how in UNIFIED.items()
        )
        count = len(found["exp"])
        lines.append(
            f"{group}: exp+linear closer than exp, of {count}, and on rows not seen: {wins}"
        )
    if not installed():
        lines.append("cars: left out, since pyblp is not installed")
    return lines


def mean(rows: Sequence[Row], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def closer(some: Sequence[Row], others: Sequence[Row], key: str) -> int:
    """Count the distributions to which `some` are closer than `others`, by more than the margin."""
    return sum(
        row[key] < (1.0 - MARGIN) * other[key] for row, other in zip(some, others, strict=True)
    )
