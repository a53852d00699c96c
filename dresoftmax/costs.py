"""What pays: exact or sketched Hessian, how many rows in a sketch and in the sample.

Rules of arithmetic on counts, without a look at the data.  The unit of cost is
the work on one entry of A in a read.
"""

from __future__ import annotations

from dresoftmax.profile import Profile

__all__ = ["choose_hessian", "sample_sizes"]

# A read does about this many multiplications on each entry of A, and a Gram
# product, which runs from cache, does as many in the same time as so many of a
# read's, which waits for memory.
GRAM_SPEEDUP = 32.0
# An exact Hessian saves this many reads: with a sketch of m rows the error falls
# by √(d/m) a step, and not quadratically.
EXACT_SAVES = 1.0
# A sketch of fewer rows per column than this is no approximation.
LEAST_ROWS_PER_COLUMN = 50

# The driver solves the problem on samples of these parts of the rows, in turn.
SAMPLE_PARTS = (0.02, 0.15)
SAMPLE_ROWS_PER_COLUMN = 30
SAMPLE_BYTES = 32 << 20


def choose_hessian(
    kind: str, sketch_size: int | None, profile: Profile, d: int
) -> tuple[str, float]:
    """Return the kind of Hessian to use, and the rows that enter a sketch.

    By default a sketch has so many rows, m, that their Gram product costs as
    much as the rest of the read (m = 32n/d on dense rows), but at most half of all,
    and "auto" takes the exact Hessian where all rows cost less than the reads that
    it saves.  A sketch of n rows or more is the exact Hessian.
    """
    width = max(1.0, profile.entries / profile.n)
    balanced = GRAM_SPEEDUP * profile.n / width
    least = LEAST_ROWS_PER_COLUMN * d
    if kind == "auto":
        cost = sketch_size or max(balanced, least)
        kind = "exact" if cost * (1.0 + EXACT_SAVES) >= profile.n else "leverage"
    size = sketch_size or max(min(balanced, 0.5 * profile.n), least)
    return "exact" if size >= profile.n else kind, float(size)


def sample_sizes(profile: Profile, d: int) -> list[float]:
    """Return the growing sizes of the samples to solve first, in rows.

    Empty where the rows are too few for a sample to say anything.
    """
    most = SAMPLE_BYTES * profile.n / profile.nbytes
    least = SAMPLE_ROWS_PER_COLUMN * d
    sizes = [min(part * profile.n, most) for part in SAMPLE_PARTS]
    return [size for size in dict.fromkeys(sizes) if size >= least]
