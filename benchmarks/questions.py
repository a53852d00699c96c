"""The page of results on the paper's open questions, written from the tables of the suites.

    python benchmarks/questions.py

reads ``results/fit.csv``, ``recovery.csv`` and ``other_units.csv``, and writes
``results/questions.md``.  Every number on the page comes from these tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fit
import numpy as np
import recovery
from measure import Row, cell, markdown, read_csv

RESULTS = Path(__file__).parent / "results"
HEAD = """# Open questions, as experiments

The paper (arXiv 2309.13482) has no experiments.  These ask what it leaves open, on real data.
Written by `python benchmarks/questions.py` from the tables of the suites
[`fit`](fit.md), [`recovery`](recovery.md) and [`other_units`](other_units.md), which say with which
versions and on how many cores they were measured; `½‖f − b‖²/‖b‖²` is called the loss.
"""
GROUPS = {
    "own": "own keys",
    "other": "other head's keys",
    "mean": "mean of queries",
    "cars": "cars",
}


def fit_section(rows: Sequence[Row]) -> str:
    """Return what was asked, done and found of fits."""
    groups = {g: [r for r in rows if r["group"] == g] for g in GROUPS}
    groups = {group: found for group, found in groups.items() if found}
    table, wins = [], []
    for model in fit.MODELS:
        line: Row = {"model": model}
        for group, found in groups.items():
            chosen = of_model(found, model)
            line[GROUPS[group]] = f"{fit.mean(chosen, 'loss'):.2g}"
            line[f"{GROUPS[group]}, not seen"] = f"{fit.mean(chosen, 'out_loss'):.2g}"
        chosen = of_model([r for r in rows if r["group"] != "cars"], model)
        line["reads, attention"] = float(np.median([r["reads"] for r in chosen]))
        line["seconds, attention"] = float(np.median([r["seconds"] for r in chosen]))
        table.append(line)
    for model, how in fit.UNIFIED.items():
        for group, found in groups.items():
            some, others = of_model(found, model), of_model(found, "exp")
            wins.append(
                {
                    "unified unit": how,
                    "distributions": GROUPS[group],
                    "how many": len(some),
                    "closer than softmax": fit.closer(some, others, "loss"),
                    "farther": fit.closer(others, some, "loss"),
                    "closer on rows not seen": fit.closer(some, others, "out_loss"),
                    "farther on rows not seen": fit.closer(others, some, "out_loss"),
                    "runs to infinity": sum(r["status"] == "SOLUTION_AT_INFINITY" for r in some),
                    "negative shares": f"{100 * max(r['negative'] for r in some):.2g} %",
                }
            )
    return f"""## Does exp(z) + z describe real distributions better than softmax?

**What was done.**  {len({r["problem"] for r in rows})} distributions: the weights that queries give to
the {max(r["n"] for r in rows):,} keys of their own attention head, where softmax is true by
construction; the same weights over the keys of another head that reads the same tokens, and
the mean weights of all queries of a head, where no model is true; and the market shares of cars
in twenty years, each year alone and all together.  Each model is fitted to all rows, and,
several times, to a random 70 % of them, to be judged by its shares of the other 30 %.
`uniform`, `linear` (least squares of b), `log-linear` (of log b) and `likelihood` (multinomial logit)
need no package like this one; `exp` is softmax regression and `exp+linear` the unified unit.

**What came out.**  The mean loss; reads of A and seconds are medians over the attention data.

{markdown(table, list(table[0]))}

In how many cases the unified unit is closer to b, or farther, by more than {fit.MARGIN:.1%} of the loss:

{markdown(wins, list(wins[0]))}

Softmax does not change when a column is shifted; the unified unit does.  Columns should be
centred for it.  With a constant k beside them, exp(z + k) + z + k is in proportion to
exp(z) + e⁻ᵏ(z + k), so that softmax is its limit for large k: the fit can then only gain, by as much
as the table says, and where the solve runs to infinity the data ask for softmax itself.
The unified unit gives negative shares to some rows, where `kl` in the table of the suite is infinite.

![Loss of each model](fit.png)
"""


def recovery_section(rows: Sequence[Row]) -> str:
    """Return what was asked, done and found of recovery."""
    most = max(row["n"] for row in rows)
    table, growth = [], []
    for kind, level in dict.fromkeys((row["disturbed"], row["level"]) for row in rows):
        found = recovery.medians(rows, kind, level)
        errors = found[most]
        line = {"disturbed by": kind, "": cell(level)}
        line |= {method: f"{errors[method]:.1g}" if method in errors else "" for method in METHODS}
        table.append(line | {"closest": min(errors, key=lambda m: errors[m])})
        if (kind, level) in recovery.GROWN:
            growth += [
                {"disturbed by": kind, "": cell(level), "method": method}
                | {f"n = {n:,}": f"{found[n][method]:.2g}" for n in sorted(found)}
                for method in METHODS
                if all(method in by_method for by_method in found.values())
            ]
    costs = [
        {
            "method": method,
            "reads": float(np.median([r["reads"] for r in chosen])),
            "seconds": float(np.median([r["seconds"] for r in chosen])),
            "largest worst error without disturbance": max(
                [r["worst_error"] for r in chosen if r["disturbed"] == "none"], default=None
            ),
        }
        for method in METHODS
        for chosen in [[r for r in rows if r["method"] == method and r["n"] == most]]
    ]
    return f"""## How exactly is a query recovered from its attention distribution?

**What was done.**  {rows[0]["queries"]} queries of each of {len({r["head"] for r in rows})} heads give their
weights softmax(Aq) to {most:,} keys; the weights are disturbed, and q is sought: by least squares of
log b on A and a constant, also with weights b, by the largest likelihood, and by dresoftmax with
unit `exp`, over all rows and over those with b > 0 alone.

**What came out.**  ‖x − q‖/‖q‖, the median over queries, then heads:

{markdown(table, list(table[0]))}

As the context grows, by nested random subsets of the keys:

{markdown(growth, list(growth[0]))}

{markdown(costs, list(costs[0]))}

Each method is best where errors are of the kind that it assumes.  Noise in proportion to each share
makes all logarithms equally sure: their least squares then use all rows, while those of
the shares see the few large ones.  Counts ask for the likelihood; logarithms know nothing of rows
that were not drawn.  Rounding to a grid errs by the same amount in all shares, which is
what ½‖f − b‖² assumes.  Where the small shares were cut off, the rows that are left pose the problem
anew, exactly: zeros must be left out, not fitted.

![Error of each method](recovery.png)
"""


METHODS = (*recovery.METHODS,)


def of_model(rows: Sequence[Row], model: str) -> list[Row]:
    return [row for row in rows if row["model"] == model]


def main() -> None:
    """Write the page."""
    sections = [
        fit_section(read_csv(RESULTS / "fit.csv")),
        recovery_section(read_csv(RESULTS / "recovery.csv")),
    ]
    (RESULTS / "questions.md").write_text("\n".join([HEAD, *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
