"""Real data that comes with the package: the keys and queries of an attention head.

An attention head turns a query q and keys k₁ … kₙ into the weights
softmax(⟨kᵢ, q⟩/√dim).  With A = keys/√dim, recovering q from its weights is softmax
regression with a known answer, and fitting the same weights with exp(Ax) + Ax
is the unified regression on real input.

`data/NOTICE.md` states the origin, the licence and the sampling of the file.
Nothing here depends on the solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np

__all__ = ["AttentionHead", "load_attention"]


@dataclass(frozen=True, slots=True, eq=False)
class AttentionHead:
    """Keys and queries of one attention head.

    Attributes
    ----------
    keys : ndarray of shape (n, dim), float16
        One row per token that was read, as recorded.
    queries : ndarray of shape (q, dim), float32
        Queries of the same head.
    """

    keys: np.ndarray
    queries: np.ndarray

    def problem(self, query: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the regression problem of one query.

        Parameters
        ----------
        query : int
            Row of `queries`.

        Returns
        -------
        A : ndarray of shape (n, dim), float64
            keys/√dim.
        b : ndarray of shape (n,), float64
            softmax(A q), the weights that the head gives to its keys.  With unit
            "exp" the solution is q exactly, at a loss of zero.

        Examples
        --------
        >>> from dresoftmax.datasets import load_attention
        >>> A, b = load_attention().problem(query=3)
        >>> A.shape, b.shape
        ((16384, 32), (16384,))
        """
        A = self.keys.astype(np.float64) / np.sqrt(self.keys.shape[1])
        z = A @ self.queries[query].astype(np.float64)
        weights = np.exp(z - z.max())
        return A, weights / weights.sum()


def load_attention() -> AttentionHead:
    """Load keys and queries of an attention head of a sentence encoder.

    The head is the first one in the fourth layer of all-MiniLM-L6-v2, while it reads
    the Python language reference in windows of 256 tokens.  The 16,384 keys are a
    random sample of all 129,024, drawn uniformly without replacement by
    ``numpy.random.default_rng(0).choice(129024, 16384, replace=False)`` and sorted.
    A run of consecutive rows would represent a few pages of the text instead of the head.
    All 8 recorded queries are included.

    Returns
    -------
    AttentionHead
        With 16,384 keys and 8 queries of dimension 32.

    Notes
    -----
    The model is licensed under Apache-2.0; see `data/NOTICE.md` in the package.

    Examples
    --------
    >>> from dresoftmax.datasets import load_attention
    >>> head = load_attention()
    >>> head.keys.shape, head.queries.shape
    ((16384, 32), (8, 32))
    """
    path = files("dresoftmax") / "data" / "attention_layer3_head0.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return AttentionHead(keys=arrays["keys"], queries=arrays["queries"])
