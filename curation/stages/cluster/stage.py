"""cluster: k-means of the eligible pool, with one level of clusters or several."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import (
    Ids,
    RowNumbers,
    Vectors,
    vector_array,
    vector_matrix,
)
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids, Floats
from curation.algorithms.kmeans.hierarchy import Level, Resampling, TrainingOptions, build_levels
from curation.algorithms.kmeans.initialisation import (
    first_different,
    init_sample_size,
    sampled_centroids,
)
from curation.algorithms.kmeans.lloyd import TrainedLevel, TrainingState, lloyd
from curation.algorithms.kmeans.points import ArrayPoints, Points
from curation.algorithms.kmeans.sharded import ShardedPoints, group_into_shards
from curation.algorithms.knn.sample import eligible_rows, read_sample, sample_eligible
from curation.engine.context import Context
from curation.engine.device import local_devices
from curation.engine.fragment_writer import ROW_GROUP_BYTES, ROW_GROUP_ROWS
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.errors import CurationError, Detail, RecipeError, StoreError
from curation.stages.cluster.kept_centroids import drift_stats, keep_centroids, measure_drift
from curation.stages.cluster.params import ClusterStep
from curation.stages.cluster.splits import train_splits
from curation.store.fragment import Fragment

logger = logging.getLogger(__name__)


def cluster(
    eligible: Table, embeddings: dict[str, Table], *, params: ClusterStep, context: Context
) -> StageOutput:
    """Train the centroids of every level.

    The training vectors are a seeded sample of about `max_points_per_centroid` vectors per cluster of
    the finest level. They are held in memory if they take at most `memory_gib`; otherwise every pass
    over them is a job on workers. Both give the same bits. With `splits`, level 0 is trained in parts.

    A run that is stopped continues after the last finished pass over level 0.

    Yields:
        (name of the level, batch of `centroids`), the finest level first.

    Returns:
        `requested` and `clusters`, the number of clusters requested and trained by level;
        `training_vectors`; and `objective`, those of each pass by level (see `TrainedLevel`), of levels
        above the first those of the last round of resampling, over the points of that round. Unless
        centroids are always trained again, also `drift` (see `drift_stats`).

    Raises:
        RecipeError: the training sample is so small that no image is in it.
        StoreError: no image of the pool is eligible.
    """
    vectors = embeddings[str(params.encoder)]
    drift = measure_drift(eligible, vectors, params, context)
    if drift is not None and drift.centroids_stay(params):
        logger.info("cluster: the centroids of an earlier run are kept")
        yield from drift.kept_levels(context)
        return drift.kept_stats()
    levels, stats = _train(eligible, vectors, params, context)
    for number, level in enumerate(levels):
        for batch in _level_batches(number, level):
            yield f"level-{number}", batch
    if params.retrain != "always":
        trained = [b for number, level in enumerate(levels) for b in _level_batches(number, level)]
        keep_centroids(trained, stats, eligible, vectors, params, context)
        stats |= {"drift": drift_stats(drift, eligible.manifest.version)}
    return stats


def _train(
    eligible: Table, vectors: Table, params: ClusterStep, context: Context
) -> tuple[list[Level], dict[str, Any]]:
    """Return trained levels, and their measurements."""
    requested = params.levels[0]
    sample = sample_eligible(
        eligible, vectors, requested * params.max_points_per_centroid, params.seed, context
    )
    if not any(part.rows for part in sample.values()):
        raise _empty_sample(eligible, params)
    train = _train_finest if params.splits == 1 else train_splits
    finest = _without_empty_clusters(train(sample, params, context))
    sizes = params.levels[1:]
    _warn_of_few(len(finest.counts), params)
    levels = build_levels(
        finest,
        sizes,
        _resampling([len(finest.counts), *sizes], params),
        TrainingOptions(
            params.iterations,
            params.metric,
            params.start,
            params.seed,
            params.backend,
            local_devices(),
        ),
    )
    return levels, {
        "requested": [requested, *sizes],
        "clusters": [len(level.trained.counts) for level in levels],
        "training_vectors": sum(part.rows for part in sample.values()),
        "objective": [list(level.trained.objective) for level in levels],
    }


def _empty_sample(eligible: Table, params: ClusterStep) -> CurationError:
    """Return why there is nothing to train on."""
    rows = eligible_rows(eligible)
    if not rows:
        reasons = Counter(eligible.manifest.counts.get("pool", {})).most_common()
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in reasons) or "it has no rows"
        return StoreError(
            f"No image of the pool is eligible ({dropped}), so there is nothing to cluster",
            fix="Change what drops them: `curation show eligible --store DIR` shows their rows",
        )
    wanted = params.levels[0] * params.max_points_per_centroid
    return RecipeError(
        Detail(
            f"none of the {rows:,} eligible images is in a training sample of about {wanted:,}",
            "cluster.max_points_per_centroid",
            params.max_points_per_centroid,
            fix="Raise it, so that the sample has more images",
        )
    )


def _warn_of_few(finest: int, params: ClusterStep) -> None:
    """Warn if the finest level has fewer clusters than it, or a level above, should have."""
    if finest < params.levels[0]:
        logger.warning(
            "cluster: %d clusters requested, %d found: too few training vectors differ",
            params.levels[0],
            finest,
        )
    for level, size in enumerate(params.levels[1:], start=1):
        if size >= finest:
            logger.warning(
                "cluster: level %d, of %d clusters, repeats level 0, which has only %d",
                level,
                size,
                finest,
            )


def _train_finest(
    sample: Mapping[str, Fragment], params: ClusterStep, context: Context
) -> TrainedLevel:
    """Train level 0, from the state that a stopped run saved if there is one."""
    key = {"sample": dict(sample), "params": params}
    saved = context.load_state("state", key)
    ids: Ids
    vectors: Vectors
    points: Points
    in_memory = _vector_bytes(sample) <= params.memory_gib * 2**30
    if in_memory:
        ids, vectors = read_sample(sample)
        devices = local_devices()
        points = ArrayPoints(vectors, load_backend(params.backend, *devices), devices[0])
    else:
        points = ShardedPoints(group_into_shards(sample), params.metric, params.backend, context)
    if saved is not None:
        state = _read_state(saved)
    elif in_memory:
        state = TrainingState(_first_centroids(ids, vectors, params))
    else:
        state = TrainingState(_first_centroids_of_files(sample, params))
    return lloyd(
        points,
        state,
        params.iterations,
        params.metric,
        lambda state: context.save_state("state", key, _state_batch(state)),
    )


def _vector_bytes(sample: Mapping[str, Fragment]) -> int:
    return sum(part.rows * 2 * int(part.record.stats["dim"]) for part in sample.values())


def _first_centroids(ids: Ids, vectors: Vectors, params: ClusterStep) -> Floats:
    """Return the initial centroids of level 0, (k, dim) float32."""
    return sampled_centroids(ids, vectors, params.start, params.levels[0], params.seed)


def _first_centroids_of_files(sample: Mapping[str, Fragment], params: ClusterStep) -> Floats:
    """Return what `_first_centroids` returns of all points; one fragment is in memory at a time."""
    count = init_sample_size(params.start, params.levels[0])
    first = _first_centroids(*_read_first(sample, count, params.seed, _smallest_keys), params)
    if len(first) == params.levels[0]:
        return first
    return _first_centroids(*_read_first(sample, count, params.seed, first_different), params)


def _smallest_keys(ids: Ids, vectors: Vectors, count: int, seed: int) -> RowNumbers:
    """Return the points with the smallest seeded keys, in their order."""
    return np.lexsort((ids, seeded_keys(ids, seed, "start")))[:count]


def _read_first(
    sample: Mapping[str, Fragment],
    count: int,
    seed: int,
    first_of: Callable[[Ids, Vectors, int, int], RowNumbers],
) -> tuple[Ids, Vectors]:
    """Return the first points in an order, of which a point stays first if others are left out."""
    ids, vectors = np.empty(0, "S32"), None
    for part in sample.values():
        table = part.read()
        part_vectors = vector_matrix(table.column("vector"))
        ids = np.concatenate([ids, to_ids(table.column("image_id"))])
        vectors = part_vectors if vectors is None else np.concatenate([vectors, part_vectors])
        first = first_of(ids, vectors, count, seed)
        ids, vectors = ids[first], vectors[first]
    assert vectors is not None
    return ids, vectors


def _state_batch(state: TrainingState) -> pa.RecordBatch:
    batch = pa.RecordBatch.from_arrays([vector_array(state.vectors)], ["vector"])
    # In hex, so that no bit is lost.
    objective = ",".join(value.hex() for value in state.objective)
    return batch.replace_schema_metadata({"objective": objective})


def _read_state(saved: Fragment) -> TrainingState:
    table = saved.read()
    text = (table.schema.metadata or {}).get(b"objective", b"").decode()
    objective = tuple(float.fromhex(value) for value in text.split(",") if value)
    return TrainingState(np.array(vector_matrix(table.column("vector"), "<f4")), objective)


def _without_empty_clusters(trained: TrainedLevel) -> TrainedLevel:
    """Drop the clusters without training vectors: their centroids are equal to others."""
    keep = trained.counts > 0
    if keep.all():
        return trained
    centroids = Centroids(trained.centroids.vectors[keep], trained.centroids.offset[keep])
    return TrainedLevel(centroids, trained.counts[keep], trained.objective)


def _resampling(sizes: list[int], params: ClusterStep) -> list[Resampling]:
    """Return the resampling of each level above the finest.

    By default a round keeps half as many points of a cluster as clusters have on average.

    Args:
        sizes: number of clusters of every level, the finest first.
        params: of the stage.
    """
    nearest = params.resampling.nearest
    return [
        Resampling(
            params.resampling.rounds, nearest[number] if nearest else max(1, -(-below // size // 2))
        )
        for number, (below, size) in enumerate(pairwise(sizes))
    ]


def _level_batches(number: int, level: Level) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a level, as many at a time as a row group holds."""
    vectors, counts = level.trained.centroids.vectors, level.trained.counts
    at_once = max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // (4 * vectors.shape[1])))
    for start in range(0, max(len(counts), 1), at_once):
        part = slice(start, start + at_once)
        count = len(counts[part])
        parent = pa.nulls(count, pa.int32()) if level.parent is None else level.parent[part]
        yield pa.record_batch(
            {
                "level": np.full(count, number, np.int32),
                "cluster_id": np.arange(start, start + count, dtype=np.int32),
                "vector": vector_array(vectors[part]),
                "training_count": counts[part],
                "parent_id": parent,
            }
        )
