"""Points in files: each pass over them is a job on workers, which add up the sums of clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.large_arrays import zeros
from curation.algorithms.arrays.vectors import RowNumbers, vector_array, vector_matrix
from curation.algorithms.kmeans.backends.load import load_backend
from curation.algorithms.kmeans.backends.nearest import Centroids, Doubles
from curation.algorithms.kmeans.lloyd import Metric, make_centroids
from curation.algorithms.kmeans.points import ArrayPoints, ClusterSums, Counts
from curation.engine.context import Context
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

SHARD_ROWS = 1_000_000
"""Maximum points of a shard, whose sums one task adds up before it writes them."""
RANGE_BYTES = 2**28
"""Maximum bytes of the sums of a range of clusters, which one task adds up over all shards."""
ROWS_PER_BATCH = 8192
"""Clusters whose sums are written at once."""


@dataclass
class ShardedPoints:
    """A sample of the pool in work tables.

    Everything that a pass computes is a work table too, so a run that was stopped finds the shards
    that were finished. The tables of a pass are deleted after the next one.

    Attributes:
        shards: work tables with a column `vector`, on the grid of `round_to_grid`, by shard.
        metric: which centroid is the nearest.
        backend: a name of `BACKENDS`.
        context: where passes are computed.
    """

    shards: Mapping[str, list[Fragment]]
    metric: Metric
    backend: str
    context: Context
    _last_pass: list[Fragment] = field(default_factory=list)

    @property
    def _passes(self) -> Context:
        # The work tables of a pass are deleted after the next one.
        return self.context.private()

    @property
    def count(self) -> int:
        """Number of points."""
        return sum(part.rows for shard in self.shards.values() for part in shard)

    def sum_by_cluster(self, centroids: Centroids) -> ClusterSums:
        """Assign each point to its nearest centroid, ties to the smaller number, and add them up."""
        centroid_table, shard_tables = self._sum_shards(centroids)
        range_tables = self._sum_ranges(centroids, shard_tables)
        sums: Doubles = zeros(centroids.vectors.shape, np.float64)
        counts = np.zeros(len(centroids), np.int64)
        for range_table in range_tables:
            table = range_table.read()
            rows = table.column("cluster_id").to_numpy()
            sums[rows] = vector_matrix(table.column("sum"), "<f8")
            counts[rows] = table.column("count").to_numpy()
        square = sum(table.stats["square"] for table in shard_tables)
        # A run that is stopped now continues from this pass; it does not need the last one.
        self.context.delete_tables(self._last_pass)
        self._last_pass = [centroid_table, *shard_tables, *range_tables]
        return ClusterSums(sums, counts, square)

    def _sum_shards(self, centroids: Centroids) -> tuple[Fragment, list[Fragment]]:
        """Return the work table of the centroids, and one with the sums of each shard."""
        # Not sent along with the tasks: above 2 GiB, Spark could send none.
        rows = pa.RecordBatch.from_arrays([vector_array(centroids.vectors)], ["vector"])
        table = self._passes.keep_rows("centroids", rows)
        options = {"centroids": table, "metric": self.metric, "backend": self.backend}
        shards = {name: {"shard": shard} | options for name, shard in self.shards.items()}
        summed = self._passes.compute("pass", sum_shard, shards, gpu=True)
        return table, list(summed.values())

    def _sum_ranges(self, centroids: Centroids, shard_tables: list[Fragment]) -> list[Fragment]:
        """Return a work table with the sums of each range of clusters over all shards."""
        size = max(1, RANGE_BYTES // (8 * centroids.vectors.shape[1]))
        items = {
            f"from-{first:08d}": {"parts": shard_tables, "first": first, "end": first + size}
            for first in range(0, len(centroids), size)
        }
        return list(self._passes.compute("sums", add_sums_in_range, items).values())


def group_into_shards(sample: Mapping[str, Fragment]) -> dict[str, list[Fragment]]:
    """Group neighbouring fragments into shards of at most SHARD_ROWS points, or of one fragment."""
    shards = split_by_rows(sample.values(), SHARD_ROWS) or [[]]
    return {f"shard-{number:05d}": shard for number, shard in enumerate(shards)}


def sum_shard(
    shard: list[Fragment], centroids: Fragment, metric: Metric, backend: str, device: str
) -> StageOutput:
    """Add up the points of one shard by cluster; runs on a worker.

    Yields:
        Batches with columns `cluster_id`, `count` and `sum`, only for clusters with points.

    Returns:
        `square`, the sum of the squared lengths of the points.
    """
    vectors = vector_matrix(centroids.read().column("vector"), "<f4")
    fixed = make_centroids(vectors, metric)
    sums, counts = np.zeros(vectors.shape), np.zeros(len(fixed), np.int64)
    square = 0.0
    for part in shard:
        if not part.rows:
            continue
        points = vector_matrix(part.read(["vector"]).column("vector"))
        part_sums = ArrayPoints(points, load_backend(backend, device), device).sum_by_cluster(fixed)
        sums += part_sums.sums
        counts += part_sums.counts
        square += part_sums.square
    yield from _sums_batches(sums, counts)
    return {"square": square}


def add_sums_in_range(parts: list[Fragment], first: int, end: int) -> StageOutput:
    """Add up the sums of all shards for the clusters from `first` up to `end`; runs on a worker.

    Yields:
        Batches as `sum_shard` yields them.
    """
    sums: Doubles | None = None
    counts = np.zeros(end - first, np.int64)
    for part in parts:
        for table in part.row_groups_between("cluster_id", first, end - 1):
            cluster_ids = table.column("cluster_id").to_numpy()
            in_range = (cluster_ids >= first) & (cluster_ids < end)
            part_sums = vector_matrix(table.column("sum"), "<f8")[in_range]
            if sums is None:
                sums = np.zeros((end - first, part_sums.shape[1]))
            sums[cluster_ids[in_range] - first] += part_sums
            counts[cluster_ids[in_range] - first] += table.column("count").to_numpy()[in_range]
    if sums is None:
        sums = np.zeros((end - first, 1))
    yield from _sums_batches(sums, counts, first)
    return None


def _sums_batches(sums: Doubles, counts: Counts, first: int = 0) -> StageOutput:
    """Yield the sums of the clusters with points; row 0 of the arrays is cluster `first`."""
    cluster_rows: RowNumbers = np.flatnonzero(counts)
    for start in range(0, max(len(cluster_rows), 1), ROWS_PER_BATCH):
        rows = cluster_rows[start : start + ROWS_PER_BATCH]
        yield pa.record_batch(
            {
                "cluster_id": (rows + first).astype(np.int32),
                "count": counts[rows],
                "sum": vector_array(sums[rows]),
            }
        )
    return None
