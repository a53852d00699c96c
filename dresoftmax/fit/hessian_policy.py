"""What pays: exact or sketched Hessian, how many rows in a sketch and in the sample.

Rules of arithmetic on counts, without a look at the data.  The unit of cost is
the work on one entry of A in a read.
"""

from __future__ import annotations

from dresoftmax.reductions.totals import Totals

__all__ = ["choose_hessian", "sample_sizes"]

# A read does about this many multiplications on each entry of A, and a Gram
# product, which runs from cache, does as many in the same time as so many of a
# read's, which waits for memory.
GRAM_SPEEDUP = 32.0
# An exact Hessian saves this many reads: with a sketch of m rows the error falls
# by √(d/m) a step, and not quadratically.  It saves more if one of them is enough.
EXACT_SAVES, CARRIED_SAVES = 1.0, 8.0
# From so many columns on the exact Hessian is most of a read, and is carried.
CARRIED_WIDTH = 64
# A sketch of fewer rows per column than this is no approximation.
LEAST_ROWS_PER_COLUMN = 50

# The sample that the driver holds: this part of all rows, divided by the number of
# targets up to MOST_SHARED, so much memory at the most for a target and for all of them,
# and so many rows per column at the least: for a first solution, and for the surrogate.
SAMPLE_PART = 0.12
MOST_SHARED = 4
SAMPLE_BYTES, SAMPLES_BYTES = 64 << 20, 512 << 20
FIRST_ROWS_PER_COLUMN = 30
SAMPLE_ROWS_PER_COLUMN = 60
# The driver takes about so many Gram products of the sample for each read of all rows.
SAMPLE_GRAMS = 3.0
# With fewer entries a solve takes milliseconds, and a sample would cost more of them.
LEAST_ENTRIES = 400_000


def choose_hessian(
    kind: str, sketch_size: int | None, totals: Totals, d: int, sampled: bool
) -> tuple[str, float, str]:
    """Return the kind of Hessian, the rows that enter a sketch, and its use (see `HessianReuse`).

    By default a sketch has so many rows, m, that their Gram product costs as
    much as the rest of the read (m = 32n/d on dense rows), and at most half of all rows.
    "auto" takes the exact Hessian if all rows cost less than the reads that it saves; it
    saves more of them if there is a sample (`sampled`) that can carry it on.  A sketch of
    n rows or more is the exact Hessian.  Several targets share the cost of a read except
    for their Hessians, which are carried on, too.
    """
    width = max(1.0, totals.entries / totals.n)
    balanced = GRAM_SPEEDUP * totals.n / width
    least = LEAST_ROWS_PER_COLUMN * d
    if kind == "auto":
        cost = sketch_size or max(balanced, least)
        saves = CARRIED_SAVES if sampled else EXACT_SAVES
        kind = "exact" if cost * (1.0 + saves) >= totals.n else "leverage"
    size = sketch_size or max(min(balanced, 0.5 * totals.n), least)
    if size < totals.n and kind != "exact":
        return kind, float(size), "sketched"
    # It is not read at every point if it costs more than the rest of a read, nor if A is
    # loaded in each read, which keeps the cores busy already.
    dear = totals.targets > 1 or totals.loaded > 0 or totals.entries > CARRIED_WIDTH * totals.n
    return "exact", 0.0, "carried" if sampled and dear else "exact"


def sample_sizes(totals: Totals, d: int) -> tuple[float, float] | None:
    """Return the rows to solve first and those of the whole sample, or None for no sample.

    There is none if the rows are too few, or if d is so large that the driver's
    algebra costs more than reads of all rows, or that a sample says nothing.
    """
    if totals.entries < max(LEAST_ENTRIES, d**3):
        return None
    width = max(1.0, totals.entries / totals.n)
    first = FIRST_ROWS_PER_COLUMN * d
    # Beside a read that they share, the samples of several targets weigh more.
    part = SAMPLE_PART / min(totals.targets, MOST_SHARED)
    nbytes = min(SAMPLE_BYTES, SAMPLES_BYTES / totals.targets)
    most = min(
        nbytes * totals.n / totals.nbytes,
        GRAM_SPEEDUP / SAMPLE_GRAMS * totals.n / width,
        0.25 * totals.n,
    )
    whole = min(max(part * totals.n, SAMPLE_ROWS_PER_COLUMN * d), most)
    return None if whole < first else (float(first), float(whole))
