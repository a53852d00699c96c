"""The Hessian of rows that are summed with random signs: the sketch "countsketch".

Rows of a panel go into buckets, each with a random sign, and the Gram of the buckets takes
the place of that of the rows (Clarkson and Woodruff, 2013).  It is there to compare with: the
kernels only say what D is of each row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp

from dresoftmax.blocks.base import Block

__all__ = ["add_buckets", "panels_to_hash", "rows_to_hash"]


def rows_to_hash(rate: float, capacity: int) -> int:
    """Return the rows of a panel: those whose buckets fill a buffer of this capacity."""
    return max(1, int(capacity / rate))


def panels_to_hash(start: int, stop: int, rows: int) -> Iterator[tuple[int, int]]:
    """Cut rows into panels that are hashed together."""
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


def add_buckets(
    panel: Block, curvature: np.ndarray, variates: np.ndarray, buckets: int, gram: np.ndarray
) -> None:
    """Add the Grams of the buckets of a panel.

    Parameters
    ----------
    panel : Block
    curvature : ndarray of shape (G, rows)
        D of each row.
    variates : ndarray of shape (rows,)
        Of each row, in [0, 1).
    buckets : int
    gram : ndarray of shape (G, d, d)
        Is added to.
    """
    places = (2.0 * buckets * variates).astype(np.int64)
    bucket = np.minimum(places // 2, buckets - 1)
    sign = 1.0 - 2.0 * (places % 2)
    ends = np.arange(panel.rows + 1)
    for D, each in zip(curvature, gram, strict=True):
        # A column for each row: those of negative D have buckets of their own.
        parts = (sign * np.sqrt(np.abs(D)), bucket + buckets * (D < 0.0), ends)
        B = panel.combine(sp.csc_array(parts, shape=(2 * buckets, panel.rows)))
        for rows, add in ((B[:buckets], np.add), (B[buckets:], np.subtract)):
            add(each, rows.T @ rows, out=each)
