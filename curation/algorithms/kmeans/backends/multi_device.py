"""Nearest centroids on several devices at once, each with a part of the points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.nearest import Assigner, Centroids, ClusterIds


class MultiDeviceAssigner:
    """A back end on each device; every point's centroid is exact, so the parts leave no trace."""

    def __init__(
        self, vectors: Vectors, load: Callable[..., Assigner], devices: Sequence[str]
    ) -> None:
        ends = np.linspace(0, len(vectors), len(devices) + 1).round().astype(int)
        self.parts = [
            load(vectors[first:end], device=device)
            for first, end, device in zip(ends, ends[1:], devices, strict=False)
        ]

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return for each point the centroid of largest float64 score, ties to the smaller number."""
        with ThreadPoolExecutor(len(self.parts)) as pool:
            return np.concatenate(list(pool.map(lambda part: part.assign(centroids), self.parts)))
