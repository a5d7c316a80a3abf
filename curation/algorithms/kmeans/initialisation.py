"""First centroids: seeded, and independent of the order in which points are stored."""

from __future__ import annotations

from typing import Literal

import numpy as np

from curation.algorithms.arrays.seeded_order import seeded_order
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.kmeans.backends.nearest import Floats
from curation.algorithms.kmeans.points import Doubles

Init = Literal["random", "kmeans++"]

SAMPLE_PER_CENTROID = 16
"""Points that k-means++ chooses among, a centroid: it passes over all of them for each."""
DRAWN_AT_ONCE = (64, 1024)
"""Points drawn at once by k-means++, a quarter of those drawn before: fewest and most."""
POINTS_PER_STEP = 8192
"""Points whose distances are taken at once."""


def init_sample_size(start: Init, clusters: int) -> int:
    """Return how many points `initial_centroids` wants to choose among."""
    return clusters * (SAMPLE_PER_CENTROID if start == "kmeans++" else 2)


def initial_centroids(vectors: Floats, ids: Ids, start: Init, clusters: int, seed: int) -> Floats:
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
    return np.ascontiguousarray(chosen[_kmeans_plus_plus(chosen, clusters, seed)], np.float32)


def _kmeans_plus_plus(points: Floats, clusters: int, seed: int) -> RowNumbers:
    """Return rows drawn with a chance that grows with the squared distance to those drawn before.

    Several are drawn by distances a little out of date, and each is kept with a chance of its distance
    now to its distance then; distances only shrink, so what is kept is distributed as if drawn one by
    one, while distances to all those kept are one product. On the grid of `on_grid` float64 products
    are without rounding, so that the draw is the same on every machine.
    """
    square = np.einsum("nd,nd->n", points, points, dtype=np.float64)
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = np.zeros(1, np.int64)
    distance = _least_distance(points, square, drawn)
    while len(drawn) < clusters:
        batch = int(np.clip(len(drawn) // 4, *DRAWN_AT_ONCE))
        sums = np.cumsum(distance)
        among = np.searchsorted(sums, rng.random(batch) * sums[-1], side="right")
        among = np.minimum(among, len(points) - 1)
        kept = _still_far(points[among].astype(np.float64), distance[among], rng.random(batch))
        kept = among[kept][: clusters - len(drawn)]
        drawn = np.concatenate([drawn, kept])
        distance = np.minimum(distance, _least_distance(points, square, kept))
        distance[kept] = 0
    return drawn


def _least_distance(points: Floats, square: Doubles, rows: RowNumbers) -> Doubles:
    """Return the squared distance of each point (n, dim) to the nearest of some of them: (n,)."""
    least = np.empty(len(points))
    drawn = points[rows].T.astype(np.float64)
    for start in range(0, len(points), POINTS_PER_STEP):
        part = slice(start, start + POINTS_PER_STEP)
        away = square[rows] - 2 * (points[part].astype(np.float64) @ drawn)
        least[part] = np.maximum(square[part] + away.min(axis=1, initial=np.inf), 0)
    return least


def _still_far(points: Doubles, distance: Doubles, chance: Doubles) -> list[int]:
    """Return which of some points (m, dim) to keep, given how far each was before."""
    between = points @ points.T
    square = np.diag(between)
    between = np.maximum(square[:, None] + square - 2 * between, 0)
    now, kept = distance.copy(), []
    for row in range(len(points)):
        if chance[row] * distance[row] < now[row]:
            kept.append(row)
            now = np.minimum(now, between[row])
            now[row] = 0
    return kept
