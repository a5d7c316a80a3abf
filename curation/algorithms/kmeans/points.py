"""What k-means needs of its points, and points in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.large_arrays import steps, zeros
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import (
    POINTS_PER_BLOCK,
    Assigner,
    Centroids,
    ClusterIds,
    Doubles,
)
from curation.engine.device import CPU

GRID_STEPS = 2.0**24
"""Steps of the grid per unit: the spacing of float16 for values up to 1 is a multiple of 2^-24."""
POINTS_PER_STEP = 1024
"""Points converted to float64 at once, so that they fit in the cache."""
MAX_UNIT_LENGTH = 1.0 + 2.0**-8
"""Largest length of a unit vector after rounding to float16."""

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


def round_to_grid(vectors: Vectors) -> tuple[Vectors, float]:
    """Return vectors whose sums have no rounding in float64: multiples of 2^-24 of length at most 1.

    float16 vectors of length at most 1 are on this grid, and are returned unchanged. Others are divided
    by a power of two if they are longer than 1, and rounded to the grid in float32.

    Args:
        vectors: (n, dim).

    Returns:
        The vectors on the grid, (n, dim), and the power of two.
    """
    longest = _longest(vectors)
    if vectors.dtype == np.float16 and longest <= MAX_UNIT_LENGTH:
        return vectors, 1.0
    # A power of two, because dividing by it rounds nothing.
    scale = 2.0 ** np.ceil(np.log2(longest)) if longest > 0 else 1.0
    scale = scale if longest > MAX_UNIT_LENGTH else 1.0
    rounded: Vectors = zeros(vectors.shape, np.float32)
    for part in steps(rounded):
        doubles = vectors[part].astype(np.float64)
        rounded[part] = np.rint(doubles * (GRID_STEPS / scale)) / GRID_STEPS
    return rounded, float(scale)


def _longest(vectors: Vectors) -> float:
    longest = 0.0
    for start in range(0, len(vectors), POINTS_PER_BLOCK):
        block = vectors[start : start + POINTS_PER_BLOCK].astype(np.float32)
        longest = max(longest, float(np.sqrt(np.einsum("nd,nd->n", block, block).max(initial=0))))
    return longest


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
        square = _sum_of_squares(self.vectors) if self._sums is None else self._sums.square
        sums, counts = self._corrected_sums(cluster_ids, len(centroids)) or self._new_sums(
            cluster_ids, centroids
        )
        self._cluster_ids, self._sums = cluster_ids, ClusterSums(sums, counts, square)
        return self._sums

    def _new_sums(self, cluster_ids: ClusterIds, centroids: Centroids) -> tuple[Doubles, Counts]:
        sums: Doubles = zeros(centroids.vectors.shape, np.float64)
        with self._adding_to(sums) as adder:
            adder.add(self.vectors, cluster_ids)
        return sums, np.bincount(cluster_ids, minlength=len(centroids)).astype(np.int64)

    def _adding_to(self, sums: Doubles) -> Any:
        # torch takes seconds to import, which readers of centroids are spared.
        from curation.algorithms.kmeans.sums import adding_to

        return adding_to(sums, self.device)

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
        with self._adding_to(sums) as adder:
            for start in range(0, len(moved), POINTS_PER_BLOCK):
                rows = moved[start : start + POINTS_PER_BLOCK]
                points = self.vectors[rows]
                adder.add(points, cluster_ids[rows])
                adder.add(points, before[rows], sign=-1)
        counts += np.bincount(cluster_ids[moved], minlength=clusters)
        counts -= np.bincount(before[moved], minlength=clusters)
        return sums, counts


def _sum_of_squares(vectors: Vectors) -> float:
    import torch

    buffer = torch.empty((POINTS_PER_STEP, vectors.shape[1]), dtype=torch.float64)
    total = 0
    for start in range(0, len(vectors), POINTS_PER_STEP):
        part = torch.from_numpy(np.ascontiguousarray(vectors[start : start + POINTS_PER_STEP]))
        points = buffer[: len(part)].copy_(part)
        # In whole steps of the grid, so that this sum does not depend on its order either.
        total += int((points.square_().sum(dim=1) * GRID_STEPS).round().sum())
    return total / GRID_STEPS
