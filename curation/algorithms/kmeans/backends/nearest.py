"""The exact nearest centroid: the protocol of back ends, and the float64 arithmetic that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.products import products_bound
from curation.algorithms.arrays.vectors import RowNumbers, Vectors

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
ClusterIds = npt.NDArray[np.int32]
"""Numbers of clusters, shape (n,)."""

POINTS_PER_BLOCK = 65_536
"""Points that are processed at once."""
POINTS_AT_ONCE, CENTROIDS_AT_ONCE = 1024, 4096
"""Points and centroids of which every pair is scored at once: their scores take 32 MB."""


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
    points: Vectors,
    centroids: Centroids,
    clusters: ClusterIds,
    rows: RowNumbers | None = None,
) -> npt.NDArray[np.float64]:
    """Return the float64 score of each pair of a point and a centroid.

    Args:
        points: (n, dim).
        centroids: k centroids.
        clusters: the centroid of each pair, (m,).
        rows: the point of each pair, (m,); by default each point is in one pair.

    Returns:
        Scores, (m,).
    """
    scores = np.empty(len(clusters))
    for start in range(0, len(clusters), POINTS_PER_BLOCK):
        part = slice(start, start + POINTS_PER_BLOCK)
        vectors = centroids.vectors[clusters[part]].astype(np.float64)
        part_points = points[part] if rows is None else points[rows[part]]
        scores[part] = np.einsum("nd,nd->n", part_points.astype(np.float64), vectors)
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
    assigned, nearest, _ = _best_candidates(points, centroids, rows, clusters)
    return assigned, nearest


def _best_candidates(
    points: Vectors, centroids: Centroids, rows: RowNumbers, clusters: ClusterIds
) -> tuple[RowNumbers, ClusterIds, npt.NDArray[np.float64]]:
    """Return what `nearest_candidates` returns, and the scores."""
    scores = exact_scores(points, centroids, clusters, rows)
    order = np.lexsort((clusters, -scores, rows))
    assigned, first = np.unique(rows[order], return_index=True)
    best = order[first]
    return assigned, clusters[best], scores[best]


def nearest_of_all(points: Vectors, centroids: Centroids) -> ClusterIds:
    """Return the nearest centroid of each point, ties to the smaller number, in bounded memory.

    For points to which so many centroids are about equally near that listing them would take too much.

    Args:
        points: (n, dim).
        centroids: k centroids.

    Returns:
        Numbers of centroids, (n,).
    """
    # Of equal centroids only the first can be the nearest.
    _, first = np.unique(centroids.vectors, axis=0, return_index=True)
    numbers = np.sort(first).astype(np.int32)
    distinct = Centroids(centroids.vectors[numbers], centroids.offset[numbers])
    parts = [
        _nearest_of_all(points[start : start + POINTS_AT_ONCE], distinct)
        for start in range(0, len(points), POINTS_AT_ONCE)
    ]
    return numbers[np.concatenate(parts)] if parts else np.empty(0, np.int32)


def _nearest_of_all(points: Vectors, centroids: Centroids) -> ClusterIds:
    doubles = points.astype(np.float64)
    best = np.full(len(points), -np.inf)
    nearest = np.zeros(len(points), np.int32)
    for start in range(0, len(centroids), CENTROIDS_AT_ONCE):
        part = slice(start, start + CENTROIDS_AT_ONCE)
        vectors, offset = centroids.vectors[part].astype(np.float64), centroids.offset[part]
        scores = doubles @ vectors.T - offset
        bound = products_bound(doubles, vectors) + 2.0**-51 * float(np.abs(offset).max())
        least = np.maximum(scores.max(axis=1), best) - 2 * bound
        near, column = np.nonzero(scores >= least[:, None])
        candidates = (column + start).astype(np.int32)
        rows, clusters, exact = _best_candidates(points, centroids, near, candidates)
        # A later centroid of the same score has a larger number.
        better = exact > best[rows]
        best[rows[better]], nearest[rows[better]] = exact[better], clusters[better]
    return nearest
