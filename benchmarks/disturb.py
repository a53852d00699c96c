"""Disturbances of an attention distribution, before it is inverted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Disturbance = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noisy(b: np.ndarray, rng: np.random.Generator, *, level: float) -> np.ndarray:
    """Multiply each entry by |1 + level·N(0, 1)|."""
    return _normalised(np.abs(b * (1.0 + level * rng.standard_normal(len(b)))))


def counted(b: np.ndarray, rng: np.random.Generator, *, draws: int) -> np.ndarray:
    """Draw rows with probabilities b, and count them."""
    return _normalised(rng.multinomial(draws, b).astype(float))


def truncated(b: np.ndarray, rng: np.random.Generator, *, kept: int) -> np.ndarray:
    """Keep the largest entries, and set all others to zero."""
    f = np.zeros_like(b)
    largest = np.argpartition(-b, kept)[:kept] if kept < len(b) else slice(None)
    f[largest] = b[largest]
    return _normalised(f)


def exact(b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leave float64 as it is."""
    return b


def float16(b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round to half precision, whose smallest positive number is 6e-8."""
    return _normalised(b.astype(np.float16).astype(float))


def bfloat16(b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Round to the upper half of a float32: 8 bits of the mantissa, all of the exponent."""
    bits = b.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return _normalised(bits.view(np.float32).astype(float))


def integers(b: np.ndarray, rng: np.random.Generator, *, bits: int) -> np.ndarray:
    """Round to multiples of the largest entry over 2^bits − 1."""
    unit = b.max() / (2**bits - 1)
    return _normalised(np.round(b / unit))


def _normalised(b: np.ndarray) -> np.ndarray:
    return b / b.sum()
