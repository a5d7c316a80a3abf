"""First centroids: seeded, and independent of the order in which points are stored."""

from __future__ import annotations

from typing import Literal

import numpy as np

from curation.kmeans.nearest import Floats
from curation.retrieve.order import seeded_order
from curation.vectors import Ids

Start = Literal["random", "kmeans++"]

SAMPLE_PER_CENTROID = 16
"""Points that k-means++ chooses among, a centroid: it passes over all of them for each."""


def candidates(start: Start, clusters: int) -> int:
    """Return how many points `first_centroids` wants to choose among."""
    return clusters * (SAMPLE_PER_CENTROID if start == "kmeans++" else 2)


def first_centroids(vectors: Floats, ids: Ids, start: Start, clusters: int, seed: int) -> Floats:
    """Return at most `clusters` points that differ, (k, dim) float32.

    Args:
        vectors: points to choose among, (n, dim).
        ids: their images, (n,), which decide the order.
        start: `random`, or `kmeans++` (Arthur and Vassilvitskii 2007).
        clusters: how many centroids.
        seed: of the recipe.
    """
    order = seeded_order(ids, seed, "start")
    chosen = vectors[order]
    _, first = np.unique(chosen, axis=0, return_index=True)
    chosen = chosen[np.sort(first)]
    if start == "random" or len(chosen) <= clusters:
        return np.ascontiguousarray(chosen[:clusters], np.float32)
    return np.ascontiguousarray(chosen[_plus_plus(chosen, clusters, seed)], np.float32)


def _plus_plus(points: Floats, clusters: int, seed: int) -> list[int]:
    """Return points drawn with a chance that grows with the squared distance to those drawn before."""
    # einsum on one thread: a threaded product would sum in another order on another machine.
    square = np.einsum("nd,nd->n", points, points)
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = [0]
    distance = np.full(len(points), np.inf)
    while len(drawn) < clusters:
        last = points[drawn[-1]]
        now = square + square[drawn[-1]] - 2 * np.einsum("nd,d->n", points, last)
        distance = np.minimum(distance, np.maximum(now, 0).astype(np.float64))
        distance[drawn] = 0
        sums = np.cumsum(distance)
        drawn.append(int(np.searchsorted(sums, rng.random() * sums[-1], side="right")))
    return drawn
