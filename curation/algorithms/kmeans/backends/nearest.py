"""The exact nearest centroid: the protocol of back ends, and the float64 arithmetic that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import RowNumbers, Vectors

Floats = npt.NDArray[np.float32]
ClusterIds = npt.NDArray[np.int32]
"""Numbers of clusters, shape (n,)."""

POINTS_PER_BLOCK = 65_536
"""Points that are processed at once."""


@dataclass(frozen=True)
class Centroids:
    """Centroids and the offset of their scores.

    The score of a point and a centroid is their inner product minus the offset. The nearest centroid is
    that of the largest score.

    Attributes:
        vectors: (k, dim) float32.
        offset: (k,) float64. It is zero with the spherical metric. With the Euclidean metric it is half
            the squared length of the centroid, so that the largest score is the smallest distance.
    """

    vectors: Floats
    offset: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.vectors)


class Assigner(Protocol):
    """A back end for one array of points. It may remember bounds from earlier centroids."""

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return the number of the nearest centroid of each point, (n,).

        It is the one of the largest float64 score; ties go to the smaller number.
        """


def exact_scores(
    points: Vectors, centroids: Centroids, clusters: ClusterIds
) -> npt.NDArray[np.float64]:
    """Return the float64 score of each point with one centroid.

    Args:
        points: (n, dim).
        centroids: k centroids.
        clusters: the centroid of each point, (n,).

    Returns:
        Scores, (n,).
    """
    scores = np.empty(len(points))
    for start in range(0, len(points), POINTS_PER_BLOCK):
        part = slice(start, start + POINTS_PER_BLOCK)
        vectors = centroids.vectors[clusters[part]].astype(np.float64)
        scores[part] = np.einsum("nd,nd->n", points[part].astype(np.float64), vectors)
        scores[part] -= centroids.offset[clusters[part]]
    return scores


def nearest_candidates(
    points: Vectors, centroids: Centroids, rows: RowNumbers, clusters: ClusterIds
) -> tuple[RowNumbers, ClusterIds]:
    """Return for each point the nearest of its candidate centroids, ties to the smaller number.

    Args:
        points: (n, dim).
        centroids: k centroids.
        rows: the point of each candidate pair, (m,).
        clusters: the centroid of each candidate pair, (m,).

    Returns:
        The points that have candidates, ascending, and the nearest candidate of each.
    """
    scores = exact_scores(points[rows], centroids, clusters)
    order = np.lexsort((clusters, -scores, rows))
    assigned, first = np.unique(rows[order], return_index=True)
    return assigned, clusters[order][first]
