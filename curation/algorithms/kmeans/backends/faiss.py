"""Nearest centroids by FAISS's exhaustive search, on a CPU or on GPUs."""

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
)
from curation.errors import RecipeError

NEIGHBOURS = 4
"""Neighbours asked for; a point with more than these within rounding is decided by all centroids."""


def load(vectors: Vectors, device: str = "cpu") -> FaissAssigner:
    """Return the back end for points (n, dim).

    Raises:
        RecipeError: a GPU is asked for and this FAISS has none.
    """
    if device != "cpu" and not hasattr(faiss, "StandardGpuResources"):
        raise RecipeError(
            f"cluster.backend faiss on {device} needs the package faiss-gpu; this is faiss-cpu. "
            "Install the extra [gpu] in place of [cpu], or use backend: torch."
        )
    return FaissAssigner(vectors, device)


class FaissAssigner:
    """Float32 search, settled in float64 where float32 cannot tell."""

    def __init__(self, vectors: Vectors, device: str) -> None:
        self.vectors = vectors
        self.device = device

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return for each point the centroid of largest float64 score, ties to the smaller number."""
        # One more dimension holds the offset: the inner product is then the score.
        base = np.column_stack([centroids.vectors, -centroids.offset.astype(np.float32)])
        parts = [
            self._block(self.vectors[start : start + POINTS_PER_BLOCK], base, centroids)
            for start in range(0, len(self.vectors), POINTS_PER_BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def _block(self, points: Vectors, base: Vectors, centroids: Centroids) -> ClusterIds:
        queries = np.ones((len(points), base.shape[1]), np.float32)
        queries[:, :-1] = points
        scores, found = self._search(
            queries, np.ascontiguousarray(base), min(NEIGHBOURS, len(base))
        )
        close = scores >= scores[:, :1] - 2 * rounding_bound(base.shape[1])
        nearest = found[:, 0].astype(np.int32)
        several = np.flatnonzero(close.sum(axis=1) > 1)
        crowded = several[close[several].all(axis=1)]
        several = np.setdiff1d(several, crowded)
        place, column = np.nonzero(close[several])
        rows, chosen = nearest_candidates(
            points, centroids, several[place], found[several][place, column].astype(np.int32)
        )
        nearest[rows] = chosen
        for row in crowded:
            every = np.arange(len(base), dtype=np.int32)
            nearest[row] = nearest_candidates(points, centroids, np.full(len(base), row), every)[1][
                0
            ]
        return nearest

    def _search(self, queries: Vectors, base: Vectors, k: int) -> tuple[Vectors, RowNumbers]:
        metric = faiss.METRIC_INNER_PRODUCT
        if self.device == "cpu":
            return faiss.knn(queries, base, k, metric=metric)
        number = int(self.device.partition(":")[2] or 0)
        resources = faiss.StandardGpuResources()
        found: tuple[Vectors, RowNumbers] = faiss.knn_gpu(
            resources, queries, base, k, metric=metric, device=number
        )
        return found
