"""Synthetic points with known clusters, and image ids."""

from __future__ import annotations

import numpy as np


def planted(rng, rows, dim, centres, spread=0.7, dtype=np.float16):
    """Return unit vectors (rows, dim) around random centres, and the centre of each, (rows,)."""
    centre_vectors = rng.normal(size=(centres, dim))
    centre = rng.integers(0, centres, rows)
    vectors = centre_vectors[centre] + spread * rng.normal(size=(rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(dtype), centre


def names(rng, rows):
    """Return random image ids, (rows,)."""
    return np.array([rng.bytes(16).hex() for _ in range(rows)], dtype="S32")
