"""Loads back ends by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends import BACKENDS
from curation.algorithms.kmeans.backends.multi_device import MultiDeviceAssigner
from curation.algorithms.kmeans.backends.nearest import Assigner


def load_backend(name: str, *devices: str) -> Callable[[Vectors], Assigner]:
    """Return a function that makes the `Assigner` of points (n, dim).

    Args:
        name: a name of `BACKENDS`.
        devices: one device, or several that share the points.
    """
    load = BACKENDS.load(name).load
    if len(devices) > 1:
        return partial(MultiDeviceAssigner, load=load, devices=devices)
    return partial(load, device=devices[0])
