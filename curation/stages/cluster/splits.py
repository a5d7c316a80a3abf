"""The finest level in splits: disjoint seeded parts of the sample, each with its share of the clusters.

Vo et al. (2024, section 4.2) train 10 million clusters as 100 splits of 100,000 each: a hundredth of
the operations, and each split fits one GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.large_arrays import zeros
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import vector_array, vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Floats
from curation.algorithms.kmeans.initialisation import sampled_centroids
from curation.algorithms.kmeans.lloyd import TrainedLevel, TrainingState, lloyd, make_centroids
from curation.algorithms.kmeans.points import ArrayPoints, Counts
from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, MapTask, exchange_tables
from curation.engine.units import StageOutput
from curation.stages.cluster.params import ClusterStep
from curation.store.fragment import Fragment

ROWS_PER_BATCH = 8192
"""Points that are sent, and clusters that are written, at once."""


def train_splits(
    sample: Mapping[str, Fragment], params: ClusterStep, context: Context
) -> TrainedLevel:
    """Train the finest level in `params.splits` splits, each as a unit of work.

    The id of an image and the seed alone decide its split.

    Args:
        sample: work tables with the columns `image_id` and `vector`.
        params: of the stage.
        context: where workers run.

    Returns:
        The clusters of all splits, split after split, without those that have no points. The objective
        of a pass is the mean over all points; a split that has converged counts with its last one.
    """
    parts = [part for part in sample.values() if part.rows]
    tasks = [MapTask(read_by_split, {"sample": part, "seed": params.seed}) for part in parts]
    dim = int(parts[0].record.stats["dim"])
    schema = pa.schema([("image_id", pa.string()), ("vector", pa.binary(2 * dim))])
    job = Exchange(
        "splits",
        {"points": ExchangeInput(schema, tasks)},
        train_split,
        params.splits,
        {"params": params},
        pass_part=True,
        gpu=True,
    )
    trained = exchange_tables(job, context)
    vectors, counts = _read_clusters([table for table in trained if table.rows], dim)
    centroids = make_centroids(vectors, params.metric)
    return TrainedLevel(centroids, counts, _mean_objective(trained))


def _read_clusters(trained: Sequence[Fragment], dim: int) -> tuple[Floats, Counts]:
    """Return the centroids of all splits, (k, dim), and the number of their points, (k,)."""
    clusters = sum(table.rows for table in trained)
    vectors: Floats = zeros((clusters, dim), np.float32)
    counts, start = np.empty(clusters, np.int64), 0
    for table in trained:
        for batch in table.batches(["vector", "count"], rows=ROWS_PER_BATCH):
            part = slice(start, start + batch.num_rows)
            vectors[part] = vector_matrix(batch.column("vector"), "<f4")
            counts[part] = batch.column("count").to_numpy()
            start = part.stop
    return vectors, counts


def read_by_split(sample: Fragment, seed: int) -> Iterator[pa.Table]:
    """Yield the rows of a sample, keyed by split."""
    for batch in sample.batches(["image_id", "vector"], rows=ROWS_PER_BATCH):
        keys = seeded_keys(to_ids(batch.column("image_id")), seed, "split")
        yield pa.Table.from_batches([batch]).append_column(KEY, pa.array(keys))


def train_split(points: pa.Table, params: ClusterStep, part: int, device: str) -> StageOutput:
    """Train the clusters of one split; runs on a worker.

    Args:
        points: its images and their vectors.
        params: of the stage.
        part: number of the split.
        device: `cpu` or `cuda[:n]`.

    Yields:
        Batches with the centroids (`vector`, float32) and the `count` of their points.

    Returns:
        `points` of the split, and the `objective` of each pass.
    """
    dim = points.schema.field("vector").type.byte_width // 2
    empty = np.empty((0, dim), np.float32), np.empty(0, np.int64)
    clusters = split_clusters(params.levels[0], params.splits)[part]
    if not len(points):
        yield _batch(*empty)
        return {"points": 0, "objective": []}
    ids = to_ids(points.column("image_id"))
    order = np.argsort(ids, kind="stable")
    ids, vectors = ids[order], vector_matrix(points.column("vector"))[order]
    first = sampled_centroids(ids, vectors, params.start, clusters, params.seed)
    array_points = ArrayPoints(vectors, load_backend(params.backend, device), device)
    trained = lloyd(array_points, TrainingState(first), params.iterations, params.metric)
    kept = trained.counts > 0
    centroids, counts = trained.centroids.vectors[kept], trained.counts[kept]
    for start in range(0, len(counts), ROWS_PER_BATCH):
        rows = slice(start, start + ROWS_PER_BATCH)
        yield _batch(centroids[rows], counts[rows])
    return {"points": len(ids), "objective": list(trained.objective)}


def split_clusters(clusters: int, splits: int) -> list[int]:
    """Return how many clusters each split has."""
    return [clusters * (n + 1) // splits - clusters * n // splits for n in range(splits)]


def _batch(centroids: np.ndarray, counts: np.ndarray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [vector_array(centroids), pa.array(counts)], ["vector", "count"]
    )


def _mean_objective(trained: list[Fragment]) -> tuple[float, ...]:
    """Return the objective of each pass over all splits."""
    stats = [table.record.stats for table in trained if table.rows]
    points = np.array([split["points"] for split in stats], np.float64)
    passes = max(len(split["objective"]) for split in stats)
    means = []
    for number in range(passes):
        values = [s["objective"][min(number, len(s["objective"]) - 1)] for s in stats]
        means.append(float(np.dot(points, values) / points.sum()))
    return tuple(means)
