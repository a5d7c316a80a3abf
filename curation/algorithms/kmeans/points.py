"""What k-means needs of its points, and points in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.large_arrays import zeros
from curation.algorithms.arrays.torch_import import NUMPY_WORK
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import (
    POINTS_PER_BLOCK,
    Assigner,
    Centroids,
    ClusterIds,
    Doubles,
)
from curation.algorithms.kmeans.numpy_sums import (
    WORK_PER_VALUE,
    Adder,
    NumpyAdder,
    sum_of_squares,
)
from curation.engine.device import CPU

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClusterSums:
    """The sums over the points of each cluster, from one pass over all points.

    Attributes:
        sums: sum of the points of each cluster, (k, dim). The next pass may change them.
        counts: number of points of each cluster, (k,).
        square: sum of the squared lengths of all points.
    """

    sums: Doubles
    counts: Counts
    square: float


class Points(Protocol):
    """Points that k-means trains on, wherever they are."""

    @property
    def count(self) -> int:
        """Number of points."""

    def sum_by_cluster(self, centroids: Centroids) -> ClusterSums:
        """Assign each point to its nearest centroid, ties to the smaller number, and add them up."""


@dataclass
class ArrayPoints:
    """Points in memory or memory-mapped.

    The back end remembers bounds from earlier centroids, and sums are corrected by the points that
    changed their cluster. So passes get cheaper as the centroids settle.

    Attributes:
        vectors: (n, dim), on the grid of `round_to_grid`.
        backend: returns the back end for the points.
        device: where the points of each cluster are added up.
    """

    vectors: Vectors
    backend: Callable[[Vectors], Assigner]
    device: str = CPU
    _assigner: Assigner | None = None
    _cluster_ids: ClusterIds | None = None
    _sums: ClusterSums | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """Number of points."""
        return len(self.vectors)

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return the number of the nearest centroid of each point, (n,)."""
        if self._assigner is None:
            self._assigner = self.backend(self.vectors)
        return self._assigner.assign(centroids)

    def sum_by_cluster(self, centroids: Centroids) -> ClusterSums:
        """Assign each point to its nearest centroid, ties to the smaller number, and add them up."""
        cluster_ids = self.assign(centroids)
        square = self._square() if self._sums is None else self._sums.square
        sums, counts = self._corrected_sums(cluster_ids, len(centroids)) or self._new_sums(
            cluster_ids, centroids
        )
        self._cluster_ids, self._sums = cluster_ids, ClusterSums(sums, counts, square)
        return self._sums

    def _new_sums(self, cluster_ids: ClusterIds, centroids: Centroids) -> tuple[Doubles, Counts]:
        sums: Doubles = zeros(centroids.vectors.shape, np.float64)
        with self._adding_to(sums, self.count) as adder:
            adder.add(self.vectors, cluster_ids)
        return sums, np.bincount(cluster_ids, minlength=len(centroids)).astype(np.int64)

    def _adding_to(self, sums: Doubles, points: int) -> AbstractContextManager[Adder]:
        if NUMPY_WORK.takes(WORK_PER_VALUE * points * sums.shape[1], self.device):
            return nullcontext(NumpyAdder(sums))
        from curation.algorithms.kmeans.sums import adding_to

        return adding_to(sums, self.device)

    def _square(self) -> float:
        """Return the sum of the squared lengths of the points."""
        if NUMPY_WORK.takes(WORK_PER_VALUE * self.vectors.size):
            return sum_of_squares(self.vectors)
        from curation.algorithms.kmeans.sums import sum_of_squares as faster

        return faster(self.vectors)

    def _corrected_sums(
        self, cluster_ids: ClusterIds, clusters: int
    ) -> tuple[Doubles, Counts] | None:
        """Correct the sums of the pass before: points that moved are taken out and added anew.

        None if there was no such pass, or if half of the points moved: new sums are then less work.
        """
        before, earlier = self._cluster_ids, self._sums
        if before is None or earlier is None or len(earlier.counts) != clusters:
            return None
        moved: RowNumbers = np.flatnonzero(cluster_ids != before)
        if len(moved) >= len(cluster_ids) // 2:
            return None
        sums, counts = earlier.sums, earlier.counts.copy()
        with self._adding_to(sums, 2 * len(moved)) as adder:
            for start in range(0, len(moved), POINTS_PER_BLOCK):
                rows = moved[start : start + POINTS_PER_BLOCK]
                points = self.vectors[rows]
                adder.add(points, cluster_ids[rows])
                adder.add(points, before[rows], sign=-1)
        counts += np.bincount(cluster_ids[moved], minlength=clusters)
        counts -= np.bincount(before[moved], minlength=clusters)
        return sums, counts
