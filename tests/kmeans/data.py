"""Points with clusters to find."""

from __future__ import annotations

import numpy as np


def planted(rng, rows, dim, centres, spread=0.7, dtype=np.float16):
    """Return unit vectors (rows, dim) around random centres, and the centre of each."""
    middle = rng.normal(size=(centres, dim))
    own = rng.integers(0, centres, rows)
    vectors = middle[own] + spread * rng.normal(size=(rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(dtype), own


def names(rng, rows):
    """Return image ids."""
    return np.array([rng.bytes(16).hex() for _ in range(rows)], dtype="S32")
