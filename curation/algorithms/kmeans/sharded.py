"""Points that stay in their files: each pass is a job over shards, its sums added up on workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import vector_array, vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids
from curation.algorithms.kmeans.lloyd import Metric, make_centroids
from curation.algorithms.kmeans.points import ArrayPoints, ClusterSums
from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.manifest import FragmentRecord
from curation.engine.units import StageOutput

SHARD_ROWS = 1_000_000
"""Points whose sums one task adds up before it writes them."""
RANGE_BYTES = 2**28
"""Sums that one task adds up over all shards: a range of centroids."""


@dataclass
class ShardedPoints:
    """A sample of the pool in work tables, (count, dim) in all.

    What a pass gives is a work table too: a run that was stopped finds the shards that were done.
    """

    shards: Mapping[str, list[Fragment]]
    metric: Metric
    backend: str
    context: Context
    _before: list[FragmentRecord] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many points there are."""
        return sum(part.rows for shard in self.shards.values() for part in shard)

    def sum_by_cluster(self, centroids: Centroids) -> ClusterSums:
        """Give each point to its nearest centroid and add them up."""
        compute = self.context.compute
        kept = compute("centroids", write_centroids, {"centroids": {"vectors": centroids.vectors}})
        record = kept["centroids"]
        now = Fragment(self.context.store, record)
        parts = compute(
            "pass",
            sum_shard,
            {
                name: {
                    "shard": shard,
                    "centroids": now,
                    "metric": self.metric,
                    "backend": self.backend,
                }
                for name, shard in self.shards.items()
            },
            gpu=True,
        )
        tables = [Fragment(self.context.store, r) for r in parts.values()]
        size = max(1, RANGE_BYTES // (8 * centroids.vectors.shape[1]))
        sums = compute(
            "sums",
            add_sums_in_range,
            {
                f"from-{first:08d}": {"parts": tables, "first": first, "end": first + size}
                for first in range(0, len(centroids), size)
            },
        )
        tally = ClusterSums(
            np.zeros(centroids.vectors.shape), np.zeros(len(centroids), np.int64), 0.0
        )
        for ranged in sums.values():
            table = Fragment(self.context.store, ranged).read()
            rows = table.column("cluster_id").to_numpy()
            tally.sums[rows] = vector_matrix(table.column("sum"), "<f8")
            tally.counts[rows] = table.column("count").to_numpy()
        square = sum(r.stats["square"] for r in parts.values())
        # The pass before served whoever went on from it; now this one does.
        self.context.delete_records(self._before)
        self._before = [record, *parts.values(), *sums.values()]
        return ClusterSums(tally.sums, tally.counts, square)


def group_into_shards(sample: Mapping[str, Fragment]) -> dict[str, list[Fragment]]:
    """Return neighbouring fragments together, up to SHARD_ROWS points."""
    shards: list[list[Fragment]] = [[]]
    rows = 0
    for part in sample.values():
        if shards[-1] and rows + part.rows > SHARD_ROWS:
            shards.append([])
            rows = 0
        shards[-1].append(part)
        rows += part.rows
    return {f"shard-{number:05d}": shard for number, shard in enumerate(shards)}


def write_centroids(vectors: np.ndarray) -> StageOutput:
    """Write centroids where every worker finds them."""
    yield pa.RecordBatch.from_arrays([vector_array(vectors)], ["vector"])
    return None


def sum_shard(
    shard: list[Fragment], centroids: Fragment, metric: Metric, backend: str, device: str
) -> StageOutput:
    """Add up the points of one shard by cluster; only clusters with points have a row."""
    now = make_centroids(vector_matrix(centroids.read().column("vector"), "<f4"), metric)
    sums, counts = np.zeros(now.vectors.shape), np.zeros(len(now), np.int64)
    square = 0.0
    for part in shard:
        if not part.rows:
            continue
        points = vector_matrix(part.read(["vector"]).column("vector"))
        own = ArrayPoints(points, load_backend(backend, device)).sum_by_cluster(now)
        sums += own.sums
        counts += own.counts
        square += own.square
    yield from _sums_batches(sums, counts, np.flatnonzero(counts))
    return {"square": square}


def add_sums_in_range(parts: list[Fragment], first: int, end: int) -> StageOutput:
    """Add up the sums of all shards for the clusters from `first` to `end`."""
    sums: np.ndarray | None = None
    counts = np.zeros(end - first, np.int64)
    for part in parts:
        for table in part.row_groups_between("cluster_id", first, end - 1):
            rows = table.column("cluster_id").to_numpy()
            inside = (rows >= first) & (rows < end)
            own = vector_matrix(table.column("sum"), "<f8")[inside]
            if sums is None:
                sums = np.zeros((end - first, own.shape[1]))
            sums[rows[inside] - first] += own
            counts[rows[inside] - first] += table.column("count").to_numpy()[inside]
    if sums is None:
        sums = np.zeros((end - first, 1))
    yield from _sums_batches(sums, counts, np.flatnonzero(counts), first)
    return None


def _sums_batches(
    sums: np.ndarray, counts: np.ndarray, rows: np.ndarray, first: int = 0
) -> StageOutput:
    step = 8192
    for start in range(0, max(len(rows), 1), step):
        own = rows[start : start + step]
        yield pa.RecordBatch.from_arrays(
            [
                pa.array((own + first).astype(np.int32)),
                pa.array(counts[own]),
                vector_array(sums[own]),
            ],
            names=["cluster_id", "count", "sum"],
        )
    return None
