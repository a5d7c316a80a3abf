"""Vectors with the structure of embeddings: clusters of very different sizes and of low dimension."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Halves = npt.NDArray[np.float16]
Clusters = npt.NDArray[np.int64]

CENTRES = 20_000
CLUSTER_DIMS = 24


def planted_vectors(rows: int, dim: int, seed: int, first: int = 0) -> Halves:
    """Return unit vectors, shape (rows, dim): number `first` and later of an endless seeded list."""
    return planted(rows, dim, seed, first)[0]


def planted(rows: int, dim: int, seed: int, first: int = 0) -> tuple[Halves, Clusters]:
    """Return unit vectors and the coarse cluster of each.

    Vectors are around 20,000 centres, and centres are around 500 coarse centres. The number of vectors
    of a centre follows a power law. Within a cluster, vectors vary in 24 directions, each with its own
    variance, and have noise in all dimensions.

    Args:
        rows: number of vectors.
        dim: dimension of the vectors.
        seed: seed of the list.
        first: number of the first vector in the list.

    Returns:
        Vectors of shape (rows, dim), and clusters of shape (rows,).
    """
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(500, dim))
    coarse_of = rng.integers(0, 500, CENTRES)
    centres = coarse[coarse_of] + 0.9 * rng.normal(size=(CENTRES, dim))
    weight = np.arange(1, CENTRES + 1) ** -0.6
    weight = np.cumsum(weight / weight.sum())
    directions = (
        rng.normal(size=(64, CLUSTER_DIMS, dim)) * np.geomspace(0.6, 0.1, CLUSTER_DIMS)[:, None]
    )
    vectors, clusters = np.empty((rows, dim), np.float16), np.empty(rows, np.int64)
    step = 50_000
    for start in range(0, rows, step):
        count = min(step, rows - start)
        step_rng = np.random.default_rng([seed, first + start])
        chosen = np.searchsorted(weight, step_rng.random(count))
        batch = centres[chosen] + 0.35 * step_rng.normal(size=(count, dim))
        weights = step_rng.normal(size=(count, CLUSTER_DIMS))
        for kind in range(64):
            members = np.flatnonzero(chosen % 64 == kind)
            batch[members] += weights[members] @ directions[kind]
        batch /= np.linalg.norm(batch, axis=1, keepdims=True)
        vectors[start : start + count] = batch
        clusters[start : start + count] = coarse_of[chosen]
    return vectors, clusters
