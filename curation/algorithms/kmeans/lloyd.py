"""Lloyd's iterations over any points: one level of clusters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curation.algorithms.kmeans.backends.nearest import Centroids, Floats
from curation.algorithms.kmeans.points import ClusterSums, Counts, Points

logger = logging.getLogger(__name__)

Metric = Literal["spherical", "euclidean"]

SPLIT = 1.0 / 1024
"""How far the halves of a split cluster are moved apart, as a part of each number."""


@dataclass(frozen=True)
class TrainedLevel:
    """Centroids of one level, how many points chose each, and the objective of each pass.

    The objective is the mean score: in spherical k-means the mean cosine similarity of a point to its
    centroid, to be as large as possible; in Euclidean the mean squared distance, as small as possible.
    """

    centroids: Centroids
    counts: Counts
    objective: tuple[float, ...]


@dataclass(frozen=True)
class TrainingState:
    """What a stopped training goes on from: the centroids after some passes and their objectives."""

    vectors: Floats
    objective: tuple[float, ...] = ()


def lloyd(
    points: Points,
    start: TrainingState,
    iterations: int,
    metric: Metric = "spherical",
    keep: Callable[[TrainingState], None] = lambda state: None,
) -> TrainedLevel:
    """Run Lloyd's algorithm (spherical: Dhillon and Modha 2001) from given centroids.

    A cluster without points takes a half of the largest one. Stops early when no centroid moves.

    Args:
        points: what to cluster.
        start: first centroids (k, dim), or the state that a stopped training kept.
        iterations: at most so many updates of the centroids.
        metric: what nearest means.
        keep: called with the state after each update.
    """
    objective = list(start.objective)
    centroids = make_centroids(start.vectors, metric)
    while True:
        tally = points.sum_by_cluster(centroids)
        objective.append(_objective(tally, centroids, points.count, metric))
        logger.info(
            "k-means: pass %d of %d, objective %.6f, %d empty",
            len(objective),
            iterations + 1,
            objective[-1],
            int((tally.counts == 0).sum()),
        )
        better = update_centroids(tally, centroids, metric)
        settled = np.array_equal(better, centroids.vectors)
        if settled or len(objective) > iterations:
            return TrainedLevel(centroids, tally.counts, tuple(objective))
        centroids = make_centroids(better, metric)
        keep(TrainingState(centroids.vectors, tuple(objective)))


def make_centroids(vectors: Floats, metric: Metric) -> Centroids:
    """Return centroids (k, dim) with the offset that the metric asks for."""
    if metric == "spherical":
        return Centroids(vectors, np.zeros(len(vectors)))
    doubles = vectors.astype(np.float64)
    return Centroids(vectors, np.einsum("kd,kd->k", doubles, doubles) / 2)


def update_centroids(tally: ClusterSums, centroids: Centroids, metric: Metric) -> Floats:
    """Return the centroids (k, dim) that fit the points best: means, or directions of sums."""
    sums, counts = tally.sums, tally.counts
    if metric == "spherical":
        scale = np.sqrt(np.einsum("kd,kd->k", sums, sums))
    else:
        scale = counts.astype(np.float64)
    # Points that cancel out leave no direction; their centroid stays.
    still = scale == 0
    vectors = sums / np.where(still, 1.0, scale)[:, None]
    vectors[still] = centroids.vectors[still]
    _fill_empty(vectors, counts)
    if metric == "spherical":
        vectors /= np.sqrt(np.einsum("kd,kd->k", vectors, vectors))[:, None]
    return vectors.astype(np.float32)


def _fill_empty(vectors: np.ndarray, counts: Counts) -> None:
    """Split the largest cluster for each empty one, as FAISS does; ties go to the smaller number."""
    sizes = counts.copy()
    sign = np.where(np.arange(vectors.shape[1]) % 2 == 0, SPLIT, -SPLIT)
    for empty in np.flatnonzero(counts == 0):
        largest = int(np.argmax(sizes))
        vectors[empty] = vectors[largest] * (1 + sign)
        vectors[largest] *= 1 - sign
        sizes[empty] = sizes[largest] // 2
        sizes[largest] -= sizes[empty]


def _objective(tally: ClusterSums, centroids: Centroids, count: int, metric: Metric) -> float:
    vectors = centroids.vectors.astype(np.float64)
    score = float(np.einsum("kd,kd->k", tally.sums, vectors).sum())
    if metric == "spherical":
        return score / count
    score -= float(np.einsum("k,k->", tally.counts.astype(np.float64), centroids.offset))
    return (tally.square - 2 * score) / count
