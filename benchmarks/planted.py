"""Vectors with the structure of embeddings: clusters of very different size, of low dimension."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Halves = npt.NDArray[np.float16]
Cells = npt.NDArray[np.int64]

CENTRES = 20_000
INNER = 24


def planted_vectors(rows: int, dim: int, seed: int, first: int = 0) -> Halves:
    """Return unit vectors (rows, dim): numbers `first` and up of one endless seeded list."""
    return planted(rows, dim, seed, first)[0]


def planted(rows: int, dim: int, seed: int, first: int = 0) -> tuple[Halves, Cells]:
    """Return unit vectors (rows, dim), and the coarse cluster (rows,) of each.

    Each lies around one of 20,000 centres, which lie themselves around 500 coarser ones; how many
    choose a centre falls off as a power law; within a cluster they spread in 24 directions of their
    own size, with noise in all.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(500, dim))
    coarse_of = rng.integers(0, 500, CENTRES)
    centres = coarse[coarse_of] + 0.9 * rng.normal(size=(CENTRES, dim))
    weight = np.arange(1, CENTRES + 1) ** -0.6
    weight = np.cumsum(weight / weight.sum())
    directions = rng.normal(size=(64, INNER, dim)) * np.geomspace(0.6, 0.1, INNER)[:, None]
    found, cells = np.empty((rows, dim), np.float16), np.empty(rows, np.int64)
    step = 50_000
    for start in range(0, rows, step):
        many = min(step, rows - start)
        own = np.random.default_rng([seed, first + start])
        chosen = np.searchsorted(weight, own.random(many))
        vectors = centres[chosen] + 0.35 * own.normal(size=(many, dim))
        inner = own.normal(size=(many, INNER))
        for kind in range(64):
            rows_of = np.flatnonzero(chosen % 64 == kind)
            vectors[rows_of] += inner[rows_of] @ directions[kind]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found[start : start + many] = vectors
        cells[start : start + many] = coarse_of[chosen]
    return found, cells
