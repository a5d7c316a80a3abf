"""Resampling of levels, against the algorithm of Vo et al. 2024 in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from curation.algorithms.arrays.seeded_order import seeded_order
from curation.algorithms.kmeans.hierarchy import (
    Resampling,
    TrainingOptions,
    train_with_resampling,
)
from curation.algorithms.kmeans.initialisation import init_sample_size, initial_centroids
from curation.algorithms.kmeans.lloyd import Metric

SEED, SALT, CLUSTERS = 5, 2, 6


def distances(points: np.ndarray, centroids: np.ndarray, metric: Metric) -> np.ndarray:
    if metric == "spherical":
        return np.asarray(-points @ centroids.T)
    return np.asarray(((points[:, None] - centroids) ** 2).sum(axis=2))


def plain_kmeans(points: np.ndarray, centroids: np.ndarray, metric: Metric) -> np.ndarray:
    """Lloyd's algorithm until nothing moves; no cluster may become empty."""
    for _ in range(200):
        nearest = distances(points, centroids, metric).argmin(axis=1)
        members = [points[nearest == cluster] for cluster in range(len(centroids))]
        assert all(map(len, members))
        moved = np.stack([m.mean(axis=0) for m in members])
        if metric == "spherical":
            moved = np.stack([m.sum(axis=0) / np.linalg.norm(m.sum(axis=0)) for m in members])
        if np.abs(moved - centroids).max() < 1e-9:
            break
        centroids = moved
    return centroids


def first_centroids(sample: np.ndarray, points: np.ndarray, number: int) -> np.ndarray:
    """The seeded draw of a round: it is ours to choose, and not a part of the algorithm."""
    ids, seed = np.array([f"{row:032x}" for row in sample], "S32"), SEED + SALT * 1000 + number
    chosen = np.sort(seeded_order(ids, seed, "start")[: init_sample_size("random", CLUSTERS)])
    vectors = points[sample[chosen]].astype(np.float32)
    return initial_centroids(vectors, ids[chosen], "random", CLUSTERS, seed).astype(np.float64)


def plain_resampling(
    points: np.ndarray, rounds: int, nearest: int, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Train, assign all points, keep the nearest of each cluster, and train on those again."""
    sample = np.arange(len(points))
    for number in range(rounds):
        first = first_centroids(sample, points, number)
        centroids = plain_kmeans(points[sample], first, metric)
        from_centroids = distances(points, centroids, metric)
        cluster_of = from_centroids.argmin(axis=1)
        kept: list[int] = []
        for cluster in range(CLUSTERS):
            members = np.flatnonzero(cluster_of == cluster).tolist()
            by_distance = sorted(members, key=lambda row: (from_centroids[row, cluster], row))
            kept += by_distance[:nearest]
        sample = np.array(sorted(kept))
    return centroids, cluster_of


@pytest.mark.parametrize("metric", ["spherical", "euclidean"])
@pytest.mark.parametrize(("rounds", "nearest"), [(1, 3), (2, 3), (4, 9)])
def test_resampling_is_that_of_the_paper(metric: Metric, rounds: int, nearest: int) -> None:
    rng = np.random.default_rng(3)
    groups = rng.normal(size=(9, 8))
    groups /= np.linalg.norm(groups, axis=1, keepdims=True)
    # Groups of very different sizes, which resampling evens out.
    points = np.repeat(groups, [120, 60, 30, 20, 10, 10, 5, 5, 5], axis=0)
    points = points + 0.15 * rng.normal(size=points.shape)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = (np.rint(points * 2**20) / 2**20).astype(np.float32).astype(np.float64)
    options = TrainingOptions(200, metric, "random", SEED, "torch")
    trained, cluster_of = train_with_resampling(
        points.astype(np.float32), CLUSTERS, Resampling(rounds, nearest), options, SALT
    )
    centroids, expected = plain_resampling(points, rounds, nearest, metric)
    np.testing.assert_array_equal(cluster_of, expected)
    np.testing.assert_allclose(trained.centroids.vectors, centroids, atol=1e-5)
    np.testing.assert_array_equal(trained.counts, np.bincount(expected, minlength=CLUSTERS))
