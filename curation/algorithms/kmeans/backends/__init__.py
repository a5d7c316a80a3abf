"""Back ends of k-means by name: each finds the same exact nearest centroids, at its own speed.

A new back end is a file here with `load(vectors, device)`, and a line below.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.multi_device import SharedNearest
from curation.algorithms.kmeans.backends.nearest import Nearest

BACKENDS = {
    "torch": "curation.algorithms.kmeans.backends.torch",
    "faiss": "curation.algorithms.kmeans.backends.faiss",
}


def backend_of(name: str, *devices: str) -> Callable[[Vectors], Nearest]:
    """Return what makes a `Nearest` of points (n, dim); several devices share the points."""
    load = import_module(BACKENDS[name]).load
    if len(devices) > 1:
        return partial(SharedNearest, load=load, devices=devices)
    return partial(load, device=devices[0])
