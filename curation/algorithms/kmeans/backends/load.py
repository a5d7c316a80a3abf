"""Loads back ends by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from curation.algorithms.arrays.torch_import import NUMPY_WORK
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends import BACKENDS
from curation.algorithms.kmeans.backends.multi_device import MultiDeviceAssigner
from curation.algorithms.kmeans.backends.nearest import (
    Assigner,
    Centroids,
    ClusterIds,
    nearest_of_all,
)
from curation.engine.device import CPU

NEEDS_TORCH = "torch"
"""The back end that imports torch."""
WORK_PER_VALUE = 400
"""Multiplications that take as long as all else that is done with a number of a point."""


def load_backend(name: str, *devices: str) -> Callable[[Vectors], Assigner]:
    """Return a function that makes the `Assigner` of points (n, dim).

    Args:
        name: a name of `BACKENDS`.
        devices: one device, or several that share the points.
    """
    if name == NEEDS_TORCH and devices == (CPU,) and NUMPY_WORK.takes(0):
        return partial(NumpyFirst, load=partial(_load, name, devices))
    return _load(name, devices)


def _load(name: str, devices: tuple[str, ...]) -> Callable[[Vectors], Assigner]:
    load = BACKENDS.load(name).load
    if len(devices) > 1:
        return partial(MultiDeviceAssigner, load=load, devices=devices)
    return partial(load, device=devices[0])


class NumpyFirst:
    """Scores all centroids by numpy, as long as that is less work than the import of a back end.

    Args:
        vectors: points, (n, dim).
        load: imports the back end.
    """

    def __init__(self, vectors: Vectors, load: Callable[[], Callable[[Vectors], Assigner]]) -> None:
        self._vectors, self._load = vectors, load
        self._backend: Assigner | None = None

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return the nearest centroid of each point. See `Assigner.assign`."""
        work = self._vectors.size * (len(centroids) + WORK_PER_VALUE)
        if self._backend is None and NUMPY_WORK.takes(work):
            return nearest_of_all(self._vectors, centroids)
        if self._backend is None:
            self._backend = self._load()(self._vectors)
        return self._backend.assign(centroids)
