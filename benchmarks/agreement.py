"""How well one distribution over rows agrees with another."""

from __future__ import annotations

import math

import numpy as np
from measure import Row


def agreement(f: np.ndarray, b: np.ndarray) -> Row:
    """Return how far f is from b.

    `loss` is ½‖f − b‖²/‖b‖², `tv` the total variation ½Σ|f − b|, `kl` the divergence
    Σ b log(b/f), infinite if f ≤ 0 in a row with b > 0, `correlation` that of f and b over
    the rows, and `negative` the part of the rows with f < 0.
    """
    c = f - b
    seen = b > 0.0
    kl = math.inf
    if (f[seen] > 0.0).all():
        kl = float(b[seen] @ np.log(b[seen] / f[seen]))
    spread = f.std() * b.std()
    return {
        "loss": float(0.5 * (c @ c) / (b @ b)),
        "tv": total_variation(f, b),
        "kl": kl,
        "correlation": float(np.mean((f - f.mean()) * (b - b.mean())) / spread) if spread else 0.0,
        "negative": float(np.mean(f < 0.0)),
    }


def total_variation(f: np.ndarray, b: np.ndarray) -> float:
    return float(0.5 * np.abs(f - b).sum())
