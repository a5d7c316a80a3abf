"""Nearest centroids on several devices at once, each with a part of the points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.nearest import Assigner, Centroids, ClusterIds


class MultiDeviceAssigner:
    """One back end per device. The nearest centroid is exact, so the division makes no difference.

    Args:
        vectors: points, (n, dim).
        load: makes the back end of some points on one device.
        devices: where they run.
    """

    def __init__(
        self, vectors: Vectors, load: Callable[..., Assigner], devices: Sequence[str]
    ) -> None:
        bounds = np.linspace(0, len(vectors), len(devices) + 1).round().astype(int)
        self.parts = [
            load(vectors[first:end], device=device)
            for first, end, device in zip(bounds, bounds[1:], devices, strict=False)
        ]

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return the nearest centroid of each point. See `Assigner.assign`."""
        with ThreadPoolExecutor(len(self.parts)) as pool:
            return np.concatenate(list(pool.map(lambda part: part.assign(centroids), self.parts)))
