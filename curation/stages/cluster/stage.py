"""cluster: k-means of the eligible pool, one level or several, seeded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, Vectors, vector_array, vector_matrix
from curation.algorithms.kmeans.backends.load import backend_of
from curation.algorithms.kmeans.hierarchy import Level, Plan, Resampling, stacked
from curation.algorithms.kmeans.initialisation import candidates, first_centroids
from curation.algorithms.kmeans.lloyd import State, Trained, lloyd
from curation.algorithms.kmeans.points import ArrayPoints, Points
from curation.algorithms.kmeans.sharded import ShardedPoints, in_shards
from curation.algorithms.knn.sample import read_sample, sample_eligible
from curation.engine.context import Context
from curation.engine.device import devices_here
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import Rows
from curation.errors import StoreError
from curation.stages.cluster.params import ClusterStep

logger = logging.getLogger(__name__)


def cluster(
    eligible: Table, embeddings: dict[str, Table], *, params: ClusterStep, context: Context
) -> Rows:
    """Train the centroids of every level.

    About `max_points_per_centroid` · k vectors take part. They are held in memory where they fit in
    `memory_gib`; else every pass over them is a job over shards. The centroids are the same bits.

    Yields:
        (part, batch of `centroids`), the finest level first.

    Returns:
        What was asked for, what could be had, and the objective of each pass (see `Trained`).
    """
    asked = params.levels[0]
    vectors = embeddings[str(params.encoder)]
    sample = sample_eligible(
        eligible, vectors, asked * params.max_points_per_centroid, params.seed, context
    )
    if not any(part.rows for part in sample.values()):
        raise StoreError(
            "No eligible pool image has a vector, so there is nothing to cluster. Look at why: "
            "curation show eligible --store DIR counts the reasons."
        )
    finest = _finest(sample, params, context)
    # A centroid that no training vector chose is a repeat of another.
    finest = _with_points(finest)
    found = len(finest.counts)
    if found < asked:
        logger.warning("cluster: %d clusters asked for, %d differ", asked, found)
    sizes = [size for size in params.levels[1:] if size < found]
    for size in params.levels[1 : len(params.levels) - len(sizes)]:
        logger.warning("cluster: no level of %d clusters over %d", size, found)
    levels = stacked(
        finest,
        sizes,
        _resampling([found, *sizes], params),
        _plan(params),
    )
    for number, level in enumerate(levels):
        yield from _rows(number, level)
    return {
        "requested": [asked, *sizes],
        "clusters": [len(level.trained.counts) for level in levels],
        "training_vectors": sum(part.rows for part in sample.values()),
        "objective": [list(level.trained.objective) for level in levels],
    }


def _finest(sample: Mapping[str, Fragment], params: ClusterStep, context: Context) -> Trained:
    """Train level 0, going on from what a stopped run kept."""
    key = {"sample": dict(sample), "params": params}
    kept = context.recall("state", key)
    ids: Ids
    vectors: Vectors
    points: Points
    in_memory = _bytes(sample) <= params.memory_gib * 2**30
    if in_memory:
        ids, vectors = read_sample(sample)
        points = ArrayPoints(vectors, backend_of(params.backend, *devices_here()))
    else:
        points = ShardedPoints(in_shards(sample), params.metric, params.backend, context)
    if kept is None:
        many = candidates(params.start, params.levels[0])
        if not in_memory:
            ids, vectors = _smallest_keys(sample, many, params.seed)
        order = np.argsort(seeded_keys(ids, params.seed, "start"), kind="stable")[:many]
        first = first_centroids(
            vectors[order].astype(np.float32),
            ids[order],
            params.start,
            params.levels[0],
            params.seed,
        )
        state = State(first)
    else:
        state = _state_in(kept)
    return lloyd(
        points,
        state,
        params.iterations,
        params.metric,
        lambda now: context.remember("state", key, _state_batch(now)),
    )


def _bytes(sample: Mapping[str, Fragment]) -> int:
    return sum(part.rows * 2 * int(part.record.stats["dim"]) for part in sample.values())


def _smallest_keys(sample: Mapping[str, Fragment], many: int, seed: int) -> tuple[Ids, Vectors]:
    """Return the points whose seeded keys are smallest, a fragment in memory at a time."""
    ids, vectors = np.empty(0, "S32"), None
    for part in sample.values():
        table = part.read()
        own = to_ids(table.column("image_id"))
        matrix = vector_matrix(table.column("vector"))
        ids = np.concatenate([ids, own])
        vectors = matrix if vectors is None else np.concatenate([vectors, matrix])
        best = np.lexsort((ids, seeded_keys(ids, seed, "start")))[:many]
        ids, vectors = ids[best], vectors[best]
    assert vectors is not None
    return ids, vectors


def _state_batch(state: State) -> pa.RecordBatch:
    batch = pa.RecordBatch.from_arrays([vector_array(state.vectors)], ["vector"])
    objective = ",".join(value.hex() for value in state.objective)
    return batch.replace_schema_metadata({"objective": objective})


def _state_in(kept: Fragment) -> State:
    table = kept.read()
    said = (table.schema.metadata or {}).get(b"objective", b"").decode()
    objective = tuple(float.fromhex(value) for value in said.split(",") if value)
    return State(np.array(vector_matrix(table.column("vector"), "<f4")), objective)


def _with_points(trained: Trained) -> Trained:
    keep = trained.counts > 0
    centroids = type(trained.centroids)(
        trained.centroids.vectors[keep], trained.centroids.offset[keep]
    )
    return Trained(centroids, trained.counts[keep], trained.objective)


def _plan(params: ClusterStep) -> Plan:
    return Plan(
        params.iterations,
        params.metric,
        params.start,
        params.seed,
        params.backend,
        devices_here(),
    )


def _resampling(sizes: list[int], params: ClusterStep) -> list[Resampling]:
    """Return how each upper level is resampled: by default the half of the clusters' mean size."""
    # Levels that the data cannot fill are missing at the fine end.
    given = (params.resampling.nearest or [])[1 - len(sizes) :]
    return [
        Resampling(
            params.resampling.rounds, given[number] if given else max(1, -(-below // size // 2))
        )
        for number, (below, size) in enumerate(pairwise(sizes))
    ]


def _rows(number: int, level: Level) -> Iterator[tuple[str, pa.RecordBatch]]:
    count = len(level.trained.counts)
    parent: Any = pa.nulls(count, pa.int32()) if level.parent is None else pa.array(level.parent)
    yield (
        f"level-{number}",
        pa.RecordBatch.from_arrays(
            [
                pa.array(np.full(count, number, np.int32)),
                pa.array(np.arange(count, dtype=np.int32)),
                vector_array(level.trained.centroids.vectors),
                pa.array(level.trained.counts),
                parent,
            ],
            names=["level", "cluster_id", "vector", "training_count", "parent_id"],
        ),
    )
