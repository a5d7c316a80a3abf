"""Nearest centroids by the exhaustive search of FAISS, on CPUs or a GPU."""

from __future__ import annotations

import faiss
import numpy as np

from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import (
    POINTS_PER_BLOCK,
    Centroids,
    ClusterIds,
    nearest_candidates,
    nearest_of_all,
)
from curation.errors import RecipeError

NEIGHBOURS = 4
"""Neighbours that FAISS returns. A point with as many within rounding of the best may have more, so all
centroids are scored for it."""


def load(vectors: Vectors, device: str = "cpu") -> FaissAssigner:
    """Return the back end for points (n, dim) on a device.

    Raises:
        RecipeError: the device is a GPU, and the installed FAISS cannot use any.
    """
    if device != "cpu" and not hasattr(faiss, "StandardGpuResources"):
        raise RecipeError(
            f"cluster.backend faiss on {device} needs the package faiss-gpu; found faiss-cpu",
            fix="Install the extra [gpu] instead of [cpu], or set backend: torch",
        )
    return FaissAssigner(vectors, device)


class FaissAssigner:
    """Search in float32, decided in float64 where the best scores are within rounding."""

    def __init__(self, vectors: Vectors, device: str) -> None:
        self.vectors = vectors
        self.device = device

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return the nearest centroid of each point. See `Assigner.assign`."""
        # A further dimension holds the offset, so that the inner product is the score.
        base = np.column_stack([centroids.vectors, -centroids.offset.astype(np.float32)])
        parts = [
            self._assign_block(self.vectors[start : start + POINTS_PER_BLOCK], base, centroids)
            for start in range(0, len(self.vectors), POINTS_PER_BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def _assign_block(self, points: Vectors, base: Vectors, centroids: Centroids) -> ClusterIds:
        queries = np.ones((len(points), base.shape[1]), np.float32)
        queries[:, :-1] = points
        scores, neighbours = self._search(
            queries, np.ascontiguousarray(base), min(NEIGHBOURS, len(base))
        )
        close = scores >= scores[:, :1] - 2 * rounding_bound(base.shape[1])
        nearest = neighbours[:, 0].astype(np.int32)
        undecided = np.flatnonzero(close.sum(axis=1) > 1)
        crowded = undecided[close[undecided].all(axis=1)]
        undecided = np.setdiff1d(undecided, crowded)
        place, column = np.nonzero(close[undecided])
        candidates = neighbours[undecided][place, column].astype(np.int32)
        rows, chosen = nearest_candidates(points, centroids, undecided[place], candidates)
        nearest[rows] = chosen
        if len(crowded):
            nearest[crowded] = nearest_of_all(points[crowded], centroids)
        return nearest

    def _search(self, queries: Vectors, base: Vectors, k: int) -> tuple[Vectors, RowNumbers]:
        metric = faiss.METRIC_INNER_PRODUCT
        if self.device == "cpu":
            return faiss.knn(queries, base, k, metric=metric)
        number = int(self.device.partition(":")[2] or 0)
        resources = faiss.StandardGpuResources()
        result: tuple[Vectors, RowNumbers] = faiss.knn_gpu(
            resources, queries, base, k, metric=metric, device=number
        )
        return result
