"""Hierarchical k-means: the centroids of each level are clustered into the next, with resampling.

Vo et al. 2024: Automatic Data Curation for Self-Supervised Learning, https://arxiv.org/abs/2405.15613;
section 3.3 and appendix A.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.algorithms.arrays.large_arrays import steps, take_rows
from curation.algorithms.arrays.seeded_order import IDS_AT_ONCE, seeded_order
from curation.algorithms.arrays.vectors import Ids, RowNumbers
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import ClusterIds, Floats, exact_scores
from curation.algorithms.kmeans.grid import round_to_grid
from curation.algorithms.kmeans.initialisation import Init, init_sample_size, initial_centroids
from curation.algorithms.kmeans.lloyd import (
    Metric,
    TrainedLevel,
    TrainingState,
    lloyd,
    make_centroids,
)
from curation.algorithms.kmeans.points import ArrayPoints
from curation.engine.device import CPU
from curation.engine.sorted_arrays import ranks_in_runs


@dataclass(frozen=True)
class Resampling:
    """How often a level is trained, and on which points after the first time.

    For web images, Vo et al. (section 4.2) take 10 rounds, with 10, 5 and 3 points per cluster at
    the second, third and fourth level.

    Attributes:
        rounds: number of trainings of a level; 1 is k-means without resampling.
        nearest: points per cluster, those nearest to its centroid, on which each later round trains.
    """

    rounds: int = 1
    nearest: int = 10


@dataclass(frozen=True)
class TrainingOptions:
    """Options of k-means that all levels above the first share.

    Attributes:
        iterations: maximum number of updates of the centroids.
        metric: which centroid is the nearest.
        init: method of initialisation.
        seed: of the recipe.
        backend: a name of `BACKENDS`.
        devices: `cpu`, or the GPUs that share the points.
    """

    iterations: int
    metric: Metric
    init: Init
    seed: int
    backend: str
    devices: tuple[str, ...] = (CPU,)


@dataclass(frozen=True)
class Level:
    """Clusters of one level.

    Attributes:
        trained: the k clusters.
        parent: the cluster of the next level that each belongs to, (k,); None at the coarsest level.
    """

    trained: TrainedLevel
    parent: ClusterIds | None = None


def build_levels(
    finest: TrainedLevel,
    sizes: Sequence[int],
    resampling: Sequence[Resampling],
    options: TrainingOptions,
) -> list[Level]:
    """Cluster the centroids of each level into the next (Vo et al. 2024, section 3.3).

    A level that would not be smaller than the one below repeats it, so that the levels above keep their
    numbers.

    Args:
        finest: the clusters of level 0.
        sizes: number of clusters of level 1 and of each level above, descending.
        resampling: of level 1 and of each level above.
        options: shared by these levels.

    Returns:
        All levels, the finest first.
    """
    levels = [Level(finest)]
    for number, (size, level_resampling) in enumerate(zip(sizes, resampling, strict=True), start=1):
        below = levels[-1].trained
        if size < len(below.centroids):
            vectors = below.centroids.vectors
            trained, parent = train_with_resampling(
                vectors, size, level_resampling, options, number
            )
        else:
            trained, parent = _repeated(below, options.metric)
        levels[-1] = Level(below, parent)
        levels.append(Level(trained))
    return levels


def _repeated(level: TrainedLevel, metric: Metric) -> tuple[TrainedLevel, ClusterIds]:
    """Return a level whose clusters have one cluster each of the level below, and their numbers."""
    clusters = len(level.centroids)
    objective = 1.0 if metric == "spherical" else 0.0
    repeated = TrainedLevel(level.centroids, np.ones(clusters, np.int64), (objective,))
    return repeated, np.arange(clusters, dtype=np.int32)


def train_with_resampling(
    vectors: Floats, clusters: int, resampling: Resampling, options: TrainingOptions, salt: int
) -> tuple[TrainedLevel, ClusterIds]:
    """Cluster points with resampling (Vo et al. 2024, section 3.3 and appendix A.1).

    Each round after the first trains on the points nearest to each centroid of the round before. So
    each cluster counts the same, and dense regions weigh no more than sparse ones.

    Args:
        vectors: points, (n, dim).
        clusters: number of clusters.
        resampling: number of rounds, and of points per cluster.
        options: of k-means.
        salt: distinguishes the seeds of different levels.

    Returns:
        The clusters, counted over all points, with the objective of the last round, over its points;
        and the cluster of each point, (n,).
    """
    points, scale = round_to_grid(vectors)
    ids = _point_ids(len(points))
    sample: RowNumbers = np.arange(len(points))
    trained, cluster_ids = _train_and_assign(points, sample, ids, clusters, options, salt * 1000)
    for number in range(1, resampling.rounds):
        sample = nearest_points_per_cluster(points, trained, cluster_ids, resampling.nearest)
        trained, cluster_ids = _train_and_assign(
            points, sample, ids, clusters, options, salt * 1000 + number
        )
    counts = np.bincount(cluster_ids, minlength=len(trained.centroids)).astype(np.int64)
    centroids = make_centroids(
        (trained.centroids.vectors * scale).astype(np.float32), options.metric
    )
    return TrainedLevel(centroids, counts, trained.objective), cluster_ids


def _train_and_assign(
    points: Floats,
    sample: RowNumbers,
    ids: Ids,
    clusters: int,
    options: TrainingOptions,
    salt: int,
) -> tuple[TrainedLevel, ClusterIds]:
    """Train on a sample of the points, and assign all points."""
    seed = options.seed + salt
    backend = load_backend(options.backend, *options.devices)
    order = seeded_order(ids[sample], seed, "start")
    rows = sample[np.sort(order[: init_sample_size(options.init, clusters)])]
    first = initial_centroids(take_rows(points, rows), ids[rows], options.init, clusters, seed)
    trained = lloyd(
        ArrayPoints(take_rows(points, sample), backend, options.devices[0]),
        TrainingState(first),
        options.iterations,
        options.metric,
    )
    return trained, backend(points).assign(trained.centroids)


def nearest_points_per_cluster(
    points: Floats, trained: TrainedLevel, cluster_ids: ClusterIds, count: int
) -> RowNumbers:
    """Return the points nearest to the centroid of their cluster, ties to the smaller number.

    Args:
        points: (n, dim).
        trained: the clusters.
        cluster_ids: the cluster of each point, (n,).
        count: maximum number of points of a cluster.

    Returns:
        Row numbers, ascending.
    """
    score = exact_scores(points, trained.centroids, cluster_ids)
    if trained.centroids.offset.any():
        # In the Euclidean metric the score leaves out the length of the point, which matters here.
        for part in steps(points):
            doubles = points[part].astype(np.float64)
            score[part] = 2 * score[part] - np.einsum("nd,nd->n", doubles, doubles)
    order = np.lexsort((-score, cluster_ids))
    return np.sort(order[ranks_in_runs(cluster_ids[order]) < count])


def _point_ids(count: int) -> Ids:
    """Return an id for each point, its number in hex digits, as `seeded_keys` takes them."""
    ids = np.empty(count, "S32")
    for start in range(0, count, IDS_AT_ONCE):
        numbers = np.arange(start, min(count, start + IDS_AT_ONCE))
        ids[numbers] = np.char.mod("%032x", numbers)
    return ids
