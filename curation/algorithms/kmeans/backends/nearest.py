"""The exact nearest centroid: what a back end promises, and the arithmetic that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import RowNumbers, Vectors

Floats = npt.NDArray[np.float32]
ClusterIds = npt.NDArray[np.int32]

POINTS_PER_BLOCK = 65_536
"""Points handled at once."""


@dataclass(frozen=True)
class Centroids:
    """Centroids (k, dim) float32; a point x belongs to the one of largest x · vector − offset.

    `offset` (k,) float64 is zero in spherical k-means, half the squared length in Euclidean: the
    largest score is then the smallest distance.
    """

    vectors: Floats
    offset: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.vectors)


class Assigner(Protocol):
    """A back end for one array of points; it may remember what it saw of earlier centroids."""

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return for each point the centroid of largest float64 score, ties to the smaller number."""


def exact_scores(
    points: Vectors, centroids: Centroids, clusters: ClusterIds
) -> npt.NDArray[np.float64]:
    """Return the float64 score of each point (n, dim) with one centroid each (n,): shape (n,)."""
    scores = np.empty(len(points))
    for start in range(0, len(points), POINTS_PER_BLOCK):
        part = slice(start, start + POINTS_PER_BLOCK)
        own = centroids.vectors[clusters[part]].astype(np.float64)
        scores[part] = np.einsum("nd,nd->n", points[part].astype(np.float64), own)
        scores[part] -= centroids.offset[clusters[part]]
    return scores


def nearest_candidates(
    points: Vectors, centroids: Centroids, rows: RowNumbers, clusters: ClusterIds
) -> tuple[RowNumbers, ClusterIds]:
    """Return the rows among the candidate pairs, rising, and the nearest candidate of each.

    Args:
        points: (n, dim).
        centroids: what to choose among.
        rows: point of each pair, (m,).
        clusters: candidate centroid of each pair, (m,).
    """
    scores = exact_scores(points[rows], centroids, clusters)
    order = np.lexsort((clusters, -scores, rows))
    found, first = np.unique(rows[order], return_index=True)
    return found, clusters[order][first]
