"""Levels of clusters: centroids are clustered again, evened out by resampling (Vo et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from curation.algorithms.arrays.seeded_order import seeded_order
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import ClusterIds, Floats, exact_scores
from curation.algorithms.kmeans.initialisation import Init, init_sample_size, initial_centroids
from curation.algorithms.kmeans.lloyd import (
    Metric,
    TrainedLevel,
    TrainingState,
    lloyd,
    make_centroids,
)
from curation.algorithms.kmeans.points import ArrayPoints, round_to_grid
from curation.engine.device import CPU


@dataclass(frozen=True)
class Resampling:
    """`rounds` runs of k-means a level, each after the first on the `nearest` points of each cluster.

    Vo et al. take 10 rounds with 10, 5 and 3 nearest points from the second level to the fourth
    (section 4.1); 1 round is k-means without resampling.
    """

    rounds: int = 1
    nearest: int = 10


@dataclass(frozen=True)
class TrainingOptions:
    """How the levels above the first are made."""

    iterations: int
    metric: Metric
    start: Init
    seed: int
    backend: str
    devices: tuple[str, ...] = (CPU,)


@dataclass(frozen=True)
class Level:
    """Clusters of one level; `parent` (k,) is the cluster of the next level that each belongs to."""

    trained: TrainedLevel
    parent: ClusterIds | None = None


def build_levels(
    finest: TrainedLevel,
    sizes: Sequence[int],
    resampling: Sequence[Resampling],
    plan: TrainingOptions,
    done: Callable[[int, TrainedLevel], None] = lambda level, trained: None,
) -> list[Level]:
    """Return all levels from the finest up.

    Args:
        finest: the clusters of level 0.
        sizes: clusters of level 1 and up, falling.
        resampling: of level 1 and up.
        plan: what the levels share.
        done: called with each level's number and clusters.
    """
    levels = [Level(finest)]
    for number, (size, how) in enumerate(zip(sizes, resampling, strict=True), start=1):
        below = levels[-1].trained.centroids.vectors
        trained, parent = train_with_resampling(below, size, how, plan, number)
        levels[-1] = Level(levels[-1].trained, parent)
        levels.append(Level(trained))
        done(number, trained)
    return levels


def train_with_resampling(
    vectors: Floats, clusters: int, how: Resampling, plan: TrainingOptions, salt: int
) -> tuple[TrainedLevel, ClusterIds]:
    """Cluster points (n, dim) with resampling; return the clusters and each point's (Vo et al., A.1).

    Resampling keeps a few points of each cluster, so that dense places weigh no more than sparse ones.
    """
    points, scale = round_to_grid(vectors)
    names = _centroid_ids(len(points))
    kept: RowNumbers = np.arange(len(points))
    trained, own = _train_and_assign(points, kept, names, clusters, plan, salt * 1000)
    for number in range(1, how.rounds):
        kept = nearest_points_per_cluster(points, trained, own, how.nearest)
        trained, own = _train_and_assign(points, kept, names, clusters, plan, salt * 1000 + number)
    counts = np.bincount(own, minlength=len(trained.centroids)).astype(np.int64)
    centroids = make_centroids((trained.centroids.vectors * scale).astype(np.float32), plan.metric)
    return TrainedLevel(centroids, counts, trained.objective), own


def _train_and_assign(
    points: Floats, kept: RowNumbers, names: Ids, clusters: int, plan: TrainingOptions, salt: int
) -> tuple[TrainedLevel, ClusterIds]:
    """Train on the kept points and assign all of them."""
    seed = plan.seed + salt
    load = load_backend(plan.backend, *plan.devices)
    among = np.sort(
        seeded_order(names[kept], seed, "start")[: init_sample_size(plan.start, clusters)]
    )
    start = initial_centroids(points[kept[among]], names[kept[among]], plan.start, clusters, seed)
    trained = lloyd(
        ArrayPoints(points[kept], load), TrainingState(start), plan.iterations, plan.metric
    )
    return trained, load(points).assign(trained.centroids)


def nearest_points_per_cluster(
    points: Floats, trained: TrainedLevel, own: ClusterIds, most: int
) -> RowNumbers:
    """Return the `most` points of largest score in each cluster, ties to the smaller number, sorted."""
    score = exact_scores(points, trained.centroids, own)
    if trained.centroids.offset.any():
        # Distance, not score: within a cluster they differ by the length of the point.
        doubles = points.astype(np.float64)
        score = 2 * score - np.einsum("nd,nd->n", doubles, doubles)
    order = np.lexsort((-score, own))
    _, start, size = np.unique(own[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(start, size)
    return np.sort(order[place < most])


def _centroid_ids(count: int) -> Ids:
    """Return an identity for each centroid below: its number, as digits that `seeded_keys` reads."""
    return np.char.mod("%032x", np.arange(count)).astype("S32")
