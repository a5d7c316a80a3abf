"""Lloyd's algorithm for one level of clusters, over any `Points`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curation.algorithms.arrays.large_arrays import steps, zeros
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import (
    Centroids,
    ClusterIds,
    Doubles,
    Floats,
    exact_scores,
)
from curation.algorithms.kmeans.points import ClusterSums, Counts, Points

logger = logging.getLogger(__name__)

Metric = Literal["spherical", "euclidean"]
"""Which centroid is the nearest: that of the largest cosine, or of the smallest distance."""

SPLIT = 1.0 / 1024
"""How far the halves of a split cluster move apart, relative to each number of its centroid."""


@dataclass(frozen=True)
class TrainedLevel:
    """The result of `lloyd`.

    Attributes:
        centroids: k centroids.
        counts: number of points of each cluster, (k,).
        objective: the objective of each pass. With the spherical metric it is the mean cosine
            similarity between a point and its centroid, which k-means maximises; with the Euclidean
            metric the mean squared distance, which it minimises.
    """

    centroids: Centroids
    counts: Counts
    objective: tuple[float, ...]


@dataclass(frozen=True)
class TrainingState:
    """The state from which a stopped training continues.

    Attributes:
        vectors: centroids, (k, dim).
        objective: the objective of each pass so far.
    """

    vectors: Floats
    objective: tuple[float, ...] = ()


def lloyd(
    points: Points,
    state: TrainingState,
    iterations: int,
    metric: Metric = "spherical",
    save_state: Callable[[TrainingState], None] = lambda state: None,
) -> TrainedLevel:
    """Train centroids by Lloyd's algorithm.

    The spherical metric is that of Dhillon and Modha 2001 (Concept Decompositions for Large Sparse Text
    Data Using Clustering, section 3). A cluster without points gets half of the largest one. Training
    stops early when no centroid moves.

    Args:
        points: the points.
        state: initial centroids, or the state that a stopped training saved.
        iterations: maximum number of updates of the centroids.
        metric: which centroid is the nearest.
        save_state: called with the state after each update.

    Returns:
        The centroids of the last pass, with the counts and objectives that were measured for them.
    """
    objective = list(state.objective)
    centroids = make_centroids(state.vectors, metric)
    while True:
        sums = points.sum_by_cluster(centroids)
        objective.append(_objective(sums, centroids, points.count, metric))
        logger.info(
            "k-means: pass %d of %d, objective %.6f, %d empty clusters",
            len(objective),
            iterations + 1,
            objective[-1],
            int((sums.counts == 0).sum()),
        )
        vectors = update_centroids(sums, centroids, metric)
        converged = np.array_equal(vectors, centroids.vectors)
        if converged or len(objective) > iterations:
            return TrainedLevel(centroids, sums.counts, tuple(objective))
        centroids = make_centroids(vectors, metric)
        save_state(TrainingState(centroids.vectors, tuple(objective)))


def make_centroids(vectors: Floats, metric: Metric) -> Centroids:
    """Return centroids (k, dim) with the offset of the metric."""
    offset = np.zeros(len(vectors))
    if metric == "euclidean":
        for part in steps(vectors):
            doubles = vectors[part].astype(np.float64)
            offset[part] = np.einsum("kd,kd->k", doubles, doubles) / 2
    return Centroids(vectors, offset)


def cosines(points: Vectors, centroids: Centroids, cluster_ids: ClusterIds) -> Doubles:
    """Return the cosine similarity of unit vectors (n, dim) to one centroid each, (n,)."""
    return exact_scores(points, make_centroids(directions(centroids), "spherical"), cluster_ids)


def directions(centroids: Centroids) -> Floats:
    """Return centroids of unit length, (k, dim); those of the spherical metric have it."""
    if not centroids.offset.any():
        return centroids.vectors
    lengths = np.linalg.norm(centroids.vectors, axis=1, keepdims=True)
    unit: Floats = (centroids.vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit


def update_centroids(sums: ClusterSums, centroids: Centroids, metric: Metric) -> Floats:
    """Return the best centroids for the clusters of one pass.

    Args:
        sums: the sums of the points of each cluster.
        centroids: the centroids of the pass.
        metric: `euclidean` takes the mean of a cluster, `spherical` the direction of its sum.

    Returns:
        New centroids, (k, dim) float32.
    """
    if metric == "spherical":
        scale = np.sqrt(np.einsum("kd,kd->k", sums.sums, sums.sums))
    else:
        scale = sums.counts.astype(np.float64)

    def means(clusters: slice | RowNumbers) -> Doubles:
        # Where the points of a cluster cancel out there is no direction, and the centroid stays.
        unchanged = scale[clusters] == 0
        vectors: Doubles = sums.sums[clusters] / np.where(unchanged, 1.0, scale[clusters])[:, None]
        vectors[unchanged] = centroids.vectors[clusters][unchanged]
        return vectors

    split, halves = _halves_for_empty_clusters(means, sums.counts)
    updated: Floats = zeros(centroids.vectors.shape, np.float32)
    # In parts, because in float64 all of them may take more memory than the rest of the training.
    for part in steps(sums.sums):
        vectors = means(part)
        inside = (split >= part.start) & (split < part.stop)
        vectors[split[inside] - part.start] = halves[inside]
        if metric == "spherical":
            vectors /= np.sqrt(np.einsum("kd,kd->k", vectors, vectors))[:, None]
        updated[part] = vectors
    return updated


def _halves_for_empty_clusters(
    means: Callable[[RowNumbers], Doubles], counts: Counts
) -> tuple[RowNumbers, Doubles]:
    """Give each empty cluster half of the largest one, as FAISS does; ties go to the smaller number.

    Args:
        means: returns the means of some clusters, by their numbers, (m, dim).
        counts: number of points of each cluster, (k,).

    Returns:
        The clusters whose centroids are halves, (m,), and these, (m, dim).
    """
    sizes = counts.copy()
    halves: dict[int, Doubles] = {}
    for empty in np.flatnonzero(counts == 0).tolist():
        largest = int(np.argmax(sizes))
        whole = halves[largest] if largest in halves else means(np.array([largest]))[0]
        sign = np.where(np.arange(len(whole)) % 2 == 0, SPLIT, -SPLIT)
        halves[empty], halves[largest] = whole * (1 + sign), whole * (1 - sign)
        sizes[empty] = sizes[largest] // 2
        sizes[largest] -= sizes[empty]
    if not halves:
        return np.empty(0, np.int64), np.empty((0, 1))
    return np.array(list(halves)), np.stack(list(halves.values()))


def _objective(sums: ClusterSums, centroids: Centroids, count: int, metric: Metric) -> float:
    """Return the objective (see `TrainedLevel`) from the sums of a pass, without the points."""
    scores = np.empty(len(centroids))
    for part in steps(sums.sums):
        vectors = centroids.vectors[part].astype(np.float64)
        scores[part] = np.einsum("kd,kd->k", sums.sums[part], vectors)
    score = float(scores.sum())
    if metric == "spherical":
        return score / count
    score -= float(np.einsum("k,k->", sums.counts.astype(np.float64), centroids.offset))
    return (sums.square - 2 * score) / count
