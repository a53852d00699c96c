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
import other_units
import recovery
from measure import Row, cell, markdown, read_csv
from other_units_plot import failed

# A loss below this is due to rounding.
ZERO = 1e-15
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
    "cars": "cars, all years",
    "year": "cars, one year",
}


def fit_section(rows: Sequence[Row]) -> str:
    """Return the section on fits: question, method, results."""
    groups = {g: [r for r in rows if r["group"] == g] for g in GROUPS}
    losses = [
        {"model": model, "": words}
        | {
            f"{GROUPS[group]} ({len(of_model(found, model))})": _short(
                fit.mean(of_model(found, model), key)
            )
            for group, found in groups.items()
        }
        for model in fit.MODELS
        for words, key in (("all rows", "loss"), ("not seen", "out_loss"))
    ]
    large = [row for row in rows if row["n"] == max(row["n"] for row in rows)]
    costs = [costs_of(of_model(large, model)) for model in fit.MODELS]
    wins = [
        _wins(how, group, *(of_model(found, name) for name in (model, "exp", "linear")))
        for group, found in groups.items()
        for model, how in fit.UNIFIED.items()
    ]
    return f"""## Does exp(z) + z describe real distributions better than softmax?

**What was done.**  {len(of_model(rows, "exp"))} distributions: the weights that queries give to
the {large[0]["n"]:,} keys of their own attention head, where softmax is true by construction;
the same weights over the keys of another head that reads the same tokens, and the mean
weights of all queries of a head, where no model is true; and the market shares of cars in
twenty years, all together and each year alone.  Each model is fitted to all rows, and, several
times, to a random 70 % of them, to be judged by its shares of the others, "not seen".
`uniform`, `linear` (least squares of b), `log-linear` (of log b) and `likelihood` (multinomial
logit) need no package like this one; `exp` is softmax regression, `exp+linear` the unified unit.

**What came out.**  The mean loss over the distributions of a kind:

{markdown(losses, list(losses[0]))}

In how many cases the unified unit is closer to b than softmax, or farther, by more than
{fit.MARGIN:.1%} of the loss:

{markdown(wins, list(wins[0]))}

- Softmax does not change when a column is shifted; the unified unit does, and is the better for
  columns that are centred.
- With a constant k beside them exp(z + k) + z + k is in proportion to exp(z) + e⁻ᵏ(z + k): softmax
  is its limit for large k.  So on the rows that it is fitted to it is never much farther than
  softmax, at the cost of more reads; where the solve runs to infinity, the data ask for softmax.
- With few rows, as in one year of cars, the exponential follows the largest shares of the rows
  that it sees.  The unified unit on centred columns is then nearly linear: compare it with
  `linear`, which needs one read, before saying that it is better than softmax.
- cosh is as large for −z as for z, and sinh is negative below zero: neither is an attraction, and
  the rescaled loss is small for other reasons than a good fit (see the last question).
- The unified unit gives negative shares to some rows.  The divergence `kl` in the table of the
  suite is infinite there.

What it took, medians over distributions on {large[0]["n"]:,} rows:

{markdown(costs, list(costs[0]))}

![Loss of each model](fit.png)
"""


def _wins(how: str, group: str, some: list[Row], exp: list[Row], linear: list[Row]) -> Row:
    return {
        "distributions": f"{GROUPS[group]} ({len(some)})",
        "columns": how,
        "closer": fit.closer(some, exp, "loss"),
        "farther": fit.closer(exp, some, "loss"),
        "closer, not seen": fit.closer(some, exp, "out_loss"),
        "farther, not seen": fit.closer(exp, some, "out_loss"),
        "closer than linear, not seen": fit.closer(some, linear, "out_loss"),
        "at infinity": sum(row["status"] == "SOLUTION_AT_INFINITY" for row in some),
        "most rows with a negative share": f"{max(row['negative'] for row in some):.0%}",
    }


def costs_of(rows: Sequence[Row]) -> Row:
    return {
        "method": rows[0]["model"] if "model" in rows[0] else rows[0]["method"],
        "reads of A": median(rows, "reads"),
        "seconds": median(rows, "seconds"),
    }


def _short(loss: float) -> str:
    return "0" if loss < ZERO else f"{loss:.3g}"


def recovery_section(rows: Sequence[Row]) -> str:
    """Return the section on recovery: question, method, results."""
    most = max(row["n"] for row in rows)
    table, growth = [], []
    for kind, level in dict.fromkeys((row["disturbed"], row["level"]) for row in rows):
        found = recovery.medians(rows, kind, level)
        errors = found[most]
        line = {"disturbed by": kind, "": cell(level)}
        line |= {name: f"{errors[name]:.1g}" if name in errors else "" for name in recovery.METHODS}
        table.append(line | {"closest": min(errors, key=lambda m: errors[m])})
        if (kind, level) in recovery.GROWN:
            growth += [
                {"disturbed by": kind, "": cell(level), "method": method}
                | {f"n = {n:,}": f"{found[n][method]:.2g}" for n in sorted(found)}
                for method in recovery.METHODS
                if all(method in by_method for by_method in found.values())
            ]
    whole = [row for row in rows if row["n"] == most]
    costs = [costs_of([row for row in whole if row["method"] == name]) for name in recovery.METHODS]
    return f"""## How exactly is a query recovered from its attention distribution?

**What was done.**  {rows[0]["queries"]} queries of each of {len({r["head"] for r in rows})} heads
give their weights softmax(Aq) to {most:,} keys; the weights are disturbed, and q is sought: by
least squares of log b on A and a constant, also with weights b, by the largest likelihood, and by
dresoftmax with unit `exp`, over all rows and over those with b > 0 alone.  `noise` is relative to
each share, `counts` are so many draws, `top` keeps so many of the largest shares.

**What came out.**  ‖x − q‖/‖q‖, the median over queries, then heads; the table of the suite has the
error of the scores Ax, cosines and total variations as well:

{markdown(table, list(table[0]))}

As the context grows, by nested random subsets of the keys:

{markdown(growth, list(growth[0]))}

What a query took, medians over all disturbances, with all {most:,} keys:

{markdown(costs, list(costs[0]))}

Each method is best where errors are of the kind that it assumes:

- Noise in proportion to each share makes all logarithms equally sure.  Their least squares use
  all rows then, and those of the shares mostly the few large ones.
- Counts ask for the likelihood.  Logarithms know nothing of rows that were never drawn, and the
  more of these a growing context has, the worse they get.
- Rounding to a grid, which half precision is below its smallest normal number, errs by the same
  amount in all shares: that is what ½‖f − b‖² assumes.
- Where small shares were cut off, the rows that are left pose the problem anew, exactly.  Zeros
  that stand for "cut off" have to be left out, not fitted.

![Error of each method](recovery.png)
"""


def units_section(rows: Sequence[Row]) -> str:
    """Return the section on other units: question, method, results."""
    table = []
    for form in dict.fromkeys(row["form"] for row in rows):
        for kind in ("synthetic", "attention"):
            pairs = other_units.paired(rows, form, kind)
            ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
            errors = [row["x_error"] for row in ours if row["x_error"] is not None]
            table.append(
                {
                    "unit": form,
                    "problems": f"{kind} ({len(pairs)})",
                    "converged": sum(row["status"] == "CONVERGED" for row in ours),
                    "worst error of x": f"{max(errors):.1g}" if errors else "",
                    "loss as a distribution": f"{median(ours, 'as_distribution'):.2g}",
                    "reads": f"{median(ours, 'reads'):.1f}",
                    "seconds": f"{median(ours, 'seconds'):.2g}",
                    "failed": sum(map(failed, ours)),
                    "L-BFGS: loss as a distribution": f"{median(theirs, 'as_distribution'):.2g}",
                    "reads ": f"{median(theirs, 'reads'):.0f}",
                    "seconds ": f"{median(theirs, 'seconds'):.2g}",
                    "failed ": sum(map(failed, theirs)),
                }
            )
    lost = [
        {
            "problem": ours["problem"],
            "unit": form,
            "status": ours["status"],
            "loss minimised": ours["loss"],
            "that of L-BFGS": theirs["loss"],
            "gradient": ours["gradient"],
        }
        for form in dict.fromkeys(row["form"] for row in rows)
        for kind in ("synthetic", "attention")
        for ours, theirs in other_units.paired(rows, form, kind)
        if failed(ours)
    ]
    return f"""## Does the solver serve other units and the rescaled loss?

**What was done.**  The units cosh(z) and sinh(z) of the sibling papers, and ½‖u − αb‖², the
rescaled loss, with these and with exp(z) and exp(z) + z: on synthetic problems whose optimum is
known, and on attention, by dresoftmax and by SciPy's L-BFGS on the same objective, from x = 0
(for cosh and sinh from a point where L-BFGS has a gradient to follow).

**What came out.**  Medians; "failed" counts solves that ended early, or in a worse optimum than
that of the other solver.  The error of x is relative, where the optimum is known.  The columns on
the right are those of L-BFGS.

{markdown(table, list(table[0]))}

- The rescaled loss is not one of distributions.  It gets small with α, so that there are valleys
  towards u = 0: at infinity for exp, at x = 0 for sinh.  Where a solve follows them, the loss falls
  while the fitted distribution gets worse, which "loss as a distribution" shows; x* is then
  another optimum, or not one at all.
- L-BFGS, which starts elsewhere and takes other steps, ends in such valleys, too.

![Reads of A](other_units.png)

{_lost(lost)}"""


def _lost(rows: Sequence[Row]) -> str:
    if not rows:
        return "Every solve by dresoftmax converged, in an optimum as good as that of L-BFGS.\n"
    return f"""Where dresoftmax did not converge, or ended in a worse optimum; the gradient
is relative to that where L-BFGS started:

{markdown(rows, list(rows[0]))}
"""


def median(rows: Sequence[Row], key: str) -> float:
    return float(np.median([row[key] for row in rows]))


def of_model(rows: Sequence[Row], model: str) -> list[Row]:
    return [row for row in rows if row["model"] == model]


def main() -> None:
    """Write the page."""
    sections = [
        fit_section(read_csv(RESULTS / "fit.csv")),
        recovery_section(read_csv(RESULTS / "recovery.csv")),
        units_section(read_csv(RESULTS / "other_units.csv")),
    ]
    (RESULTS / "questions.md").write_text("\n".join([HEAD, *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
