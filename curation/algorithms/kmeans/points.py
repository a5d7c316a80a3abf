"""What k-means asks of its points, and points held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import (
    POINTS_PER_BLOCK,
    Assigner,
    Centroids,
    ClusterIds,
)

GRID_STEPS = 2.0**24
"""Steps of the grid in 1: float16 has them at lengths up to 1."""

POINTS_PER_STEP = 1024
"""Points turned into float64 at once, so that they stay in the cache."""

Doubles = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClusterSums:
    """What one pass over the points tells: sums (k, dim) float64 and counts (k,) by cluster.

    `square` is the sum of the squared lengths of all points.
    """

    sums: Doubles
    counts: Counts
    square: float


class Points(Protocol):
    """Points that k-means runs on, wherever they are."""

    @property
    def count(self) -> int:
        """How many points there are."""

    def sum_by_cluster(self, centroids: Centroids) -> ClusterSums:
        """Give each point to its nearest centroid (ties: the smaller number) and add them up."""


def round_to_grid(vectors: Vectors) -> tuple[Vectors, float]:
    """Return the vectors as k-means takes them, and the power of two they were divided by.

    float16 of length at most 1 is on the grid already and comes back as it is. Anything else becomes
    float32, scaled to length at most 1 and rounded to multiples of 2^-24.
    """
    longest = _longest(vectors)
    if vectors.dtype == np.float16 and longest <= MAX_UNIT_LENGTH:
        return vectors, 1.0
    # A power of two: scaling itself rounds nothing.
    scale = 2.0 ** np.ceil(np.log2(longest)) if longest > 0 else 1.0
    scale = scale if longest > MAX_UNIT_LENGTH else 1.0
    scaled = np.rint(np.asarray(vectors, np.float64) * (GRID_STEPS / scale)) / GRID_STEPS
    return scaled.astype(np.float32), float(scale)


MAX_UNIT_LENGTH = 1.0 + 2.0**-8
"""Length up to which vectors count as unit vectors: rounding to float16 makes some a little longer."""


def _longest(vectors: Vectors) -> float:
    longest = 0.0
    for start in range(0, len(vectors), POINTS_PER_BLOCK):
        block = vectors[start : start + POINTS_PER_BLOCK].astype(np.float32)
        longest = max(longest, float(np.sqrt(np.einsum("nd,nd->n", block, block).max(initial=0))))
    return longest


@dataclass
class ArrayPoints:
    """Points (n, dim) in memory or memory-mapped, on the grid; see `round_to_grid`.

    A back end keeps what it has learnt of the last centroids, so that passes get cheaper as the
    centroids settle; sums are corrected by the points that moved.
    """

    vectors: Vectors
    backend: Callable[[Vectors], Assigner]
    _nearest: Assigner | None = None
    _clusters: ClusterIds | None = None
    _sums: ClusterSums | None = field(default=None, repr=False)

    @property
    def count(self) -> int:
        """How many points there are."""
        return len(self.vectors)

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return the nearest centroid of each point, (count,)."""
        if self._nearest is None:
            self._nearest = self.backend(self.vectors)
        return self._nearest.assign(centroids)

    def sum_by_cluster(self, centroids: Centroids) -> ClusterSums:
        """Give each point to its nearest centroid and add them up."""
        clusters = self.assign(centroids)
        moved = self._moved(clusters, len(centroids))
        if self._clusters is not None and self._sums is not None and moved is not None:
            sums, counts = self._sums.sums.copy(), self._sums.counts.copy()
            for start in range(0, len(moved), POINTS_PER_BLOCK):
                rows = moved[start : start + POINTS_PER_BLOCK]
                points = self.vectors[rows]
                add_to_sums(sums, points, clusters[rows])
                add_to_sums(sums, points, self._clusters[rows], sign=-1)
            counts += np.bincount(clusters[moved], minlength=len(counts))
            counts -= np.bincount(self._clusters[moved], minlength=len(counts))
        else:
            sums = np.zeros(centroids.vectors.shape)
            add_to_sums(sums, self.vectors, clusters)
            counts = np.bincount(clusters, minlength=len(centroids)).astype(np.int64)
        square = _square(self.vectors) if self._sums is None else self._sums.square
        self._clusters, self._sums = clusters, ClusterSums(sums, counts, square)
        return self._sums

    def _moved(self, clusters: ClusterIds, count: int) -> RowNumbers | None:
        """Return the points that changed their cluster, or None where starting anew is less work."""
        before, tally = self._clusters, self._sums
        if before is None or tally is None or len(tally.counts) != count:
            return None
        moved = np.flatnonzero(clusters != before)
        return moved if len(moved) < len(clusters) // 2 else None


def add_to_sums(sums: Doubles, vectors: Vectors, clusters: ClusterIds, sign: int = 1) -> None:
    """Add (or take away) points to the sums of their clusters, without rounding."""
    import torch

    into = torch.from_numpy(sums)
    for rows, points in _in_doubles(vectors):
        into.index_add_(0, torch.from_numpy(clusters[rows]), points, alpha=sign)


def _square(vectors: Vectors) -> float:
    # In whole steps of the grid, so that this sum too is the same in any order.
    total = 0
    for _, points in _in_doubles(vectors):
        total += int((points.square_().sum(dim=1) * GRID_STEPS).round().sum())
    return total / GRID_STEPS


def _in_doubles(vectors: Vectors) -> Iterator[tuple[slice, Any]]:
    """Yield rows and their vectors as a float64 tensor that the next ones overwrite."""
    import torch

    room = torch.empty((POINTS_PER_STEP, vectors.shape[1]), dtype=torch.float64)
    for start in range(0, len(vectors), POINTS_PER_STEP):
        rows = slice(start, min(start + POINTS_PER_STEP, len(vectors)))
        part = torch.from_numpy(np.ascontiguousarray(vectors[rows]))
        yield rows, room[: len(part)].copy_(part)
