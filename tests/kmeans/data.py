"""Synthetic points with known clusters, and image ids."""

from __future__ import annotations

from typing import Any

import numpy as np

from curation.algorithms.arrays.vectors import Ids


def planted(
    rng: np.random.Generator,
    rows: int,
    dim: int,
    centres: int,
    spread: float = 0.7,
    dtype: type[np.floating[Any]] = np.float16,
) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors (rows, dim) around random centres, and the centre of each, (rows,)."""
    centre_vectors = rng.normal(size=(centres, dim))
    centre = rng.integers(0, centres, rows)
    vectors = centre_vectors[centre] + spread * rng.normal(size=(rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(dtype), centre


def names(rng: np.random.Generator, rows: int) -> Ids:
    """Return random image ids, (rows,)."""
    return np.array([rng.bytes(16).hex() for _ in range(rows)], dtype="S32")


def planted_pool(seed: int, rows: int, dim: int) -> tuple[Ids, np.ndarray]:
    """Return random image ids, (rows,), and vectors in 30 planted clusters, (rows, dim)."""
    rng = np.random.default_rng(seed)
    vectors, _ = planted(rng, rows, dim, 30, spread=0.4)
    return names(rng, rows), vectors
