"""From the name of a back end to what finds nearest centroids."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends import BACKENDS
from curation.algorithms.kmeans.backends.multi_device import SharedNearest
from curation.algorithms.kmeans.backends.nearest import Nearest


def backend_of(name: str, *devices: str) -> Callable[[Vectors], Nearest]:
    """Return what makes a `Nearest` of points (n, dim); several devices share the points."""
    load = BACKENDS.load(name).load
    if len(devices) > 1:
        return partial(SharedNearest, load=load, devices=devices)
    return partial(load, device=devices[0])
