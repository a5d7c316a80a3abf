"""Counts the work of the stages that find nearest centroids: cluster and assign.

Operations of products are two for each point, centroid and dimension. Those that bounds make needless
are counted too, because how many they are depends on the data. docs/methods.md has the formulas.
"""

from __future__ import annotations

from itertools import pairwise

from curation.algorithms.arrays.large_arrays import IN_MEMORY_BYTES
from curation.algorithms.kmeans.initialisation import init_sample_size
from curation.inspect.cost.work import CostInputs, Work, read_vectors
from curation.stages.assign.joint_bytes import bytes_for
from curation.stages.cluster.params import ClusterParams

ASSIGNED_ROW = 60
"""Bytes of a row of `assignments`."""
SCANNED_VALUE = 14
"""Bytes of the driver for a number of a centroid while it is laid out for the scans of a core."""
BOUNDS, MIN_GROUP = 2**31, 16
"""Bytes of the driver for the bounds of points, and the fewest centroids that share one, as in
`curation/algorithms/kmeans/backends/torch.py`, which is not imported because torch takes seconds."""
TRAINED_POINT = 250
"""Bytes of the driver for a centroid that the level above is trained on: its id, order and cluster."""


def cluster_work(inputs: CostInputs) -> Work:
    """Return the work of cluster."""
    dim, params = inputs.semantic_dim, inputs.recipe.cluster
    levels = params.levels
    points = min(inputs.counts.eligible, levels[0] * params.max_points_per_centroid)
    sample_bytes = points * 2 * dim
    in_splits = params.splits > 1
    in_memory = not in_splits and sample_bytes <= params.memory_gib * 2**30
    # Splits are sent once; files are read in every pass.
    readings = 1 if in_memory or in_splits else params.iterations + 2
    return Work(
        "cluster",
        sum(levels),
        stored=sum(levels) * 4 * dim + sample_bytes,
        moved=sample_bytes * readings,
        cpu_flop=2 * dim * _drawing_products(params, points),
        product_flop=2 * dim * _training_products(params, points),
        units_by_rate=read_vectors(inputs.counts.images, dim),
        driver=_driver_bytes(params, dim, points) + (sample_bytes if in_memory else 0),
    )


def _driver_bytes(params: ClusterParams, dim: int, points: float) -> float:
    """Return the bytes of the driver besides the sample, and besides arrays that are mapped from files.

    Args:
        params: of the stage.
        dim: dimensions of the vectors.
        points: training vectors of the finest level.
    """
    trained = [(size, float(below)) for below, size in pairwise(params.levels)]
    held = sum(below for _, below in trained) * TRAINED_POINT
    if params.splits == 1:
        trained.append((params.levels[0], points))
    return held + max((training_bytes(size, count, dim) for size, count in trained), default=0)


def training_bytes(clusters: int, points: float, dim: int) -> float:
    """Return the bytes of the driver besides the points while it trains some centroids."""
    numbers = clusters * dim
    # The sums, and the centroids of this pass and of the one before.
    arrays = sum(min(width * numbers, IN_MEMORY_BYTES) for width in (8, 4, 4))
    bounds = min(BOUNDS, 4 * points * clusters / MIN_GROUP)
    return numbers * SCANNED_VALUE + arrays + bounds


def quantiser_bytes(lists: int, points: float, dim: int) -> float:
    """Return the bytes of the driver while it trains the lists of an index, or the cells of a join."""
    # The sample, and the points that are taken of it.
    sample = 2 * min(2 * dim * points, IN_MEMORY_BYTES)
    return sample + training_bytes(lists, points, dim)


def assign_work(inputs: CostInputs) -> Work:
    """Return the work of assign: every image beside every centroid of the finest level."""
    counts, dim, centroids = inputs.counts, inputs.semantic_dim, inputs.recipe.cluster.levels[0]
    centroid_bytes = centroids * 4 * dim
    at_once = bytes_for(centroid_bytes, inputs.recipe.cluster.assign_gib)
    # Each task reads all centroids; it assigns one fragment at least.
    tasks = min(counts.fragments, counts.images * 2 * dim / at_once + 1)
    return Work(
        "assign",
        counts.rows,
        stored=counts.rows * ASSIGNED_ROW,
        moved=tasks * centroid_bytes,
        product_flop=2 * counts.images * centroids * dim,
        units_by_rate=read_vectors(inputs.counts.images, dim),
    )


def _training_products(params: ClusterParams, points: float) -> float:
    """Return how many pairs of a point and a centroid the training of all levels scores.

    Args:
        params: of the stage.
        points: training vectors of the finest level.
    """
    levels, passes = params.levels, params.iterations + 1
    # A point meets only the centroids of its own split.
    products = points * levels[0] / params.splits * passes
    for number, (below, size) in enumerate(pairwise(levels)):
        nearest = params.resampling.nearest
        per_cluster = nearest[number] if nearest else max(1, -(-below // size // 2))
        resampled = min(below, per_cluster * size)
        # The first round trains on all centroids below, later ones on those nearest to each centroid;
        # after each, all are assigned.
        trained = below + resampled * (params.resampling.rounds - 1)
        products += size * (trained * passes + below * params.resampling.rounds)
    return float(products)


def _drawing_products(params: ClusterParams, points: float) -> float:
    """Return how many pairs k-means++ scores; each counts twice, because it is in float64, on cores.

    Args:
        params: of the stage.
        points: training vectors of the finest level.
    """
    if params.start != "kmeans++":
        return 0.0
    levels = params.levels
    finest = levels[0] / params.splits
    sample = min(points / params.splits, init_sample_size("kmeans++", int(finest)))
    products = params.splits * finest * sample
    for below, size in pairwise(levels):
        sample = min(below, init_sample_size("kmeans++", size))
        products += params.resampling.rounds * size * sample
    return 2.0 * products
