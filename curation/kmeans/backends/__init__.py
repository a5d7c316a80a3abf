"""Back ends of k-means by name: each finds the same exact nearest centroids, at its own speed.

A new back end is a file here with `load(vectors, device)`, and a line below.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

BACKENDS = {
    "torch": "curation.kmeans.backends.torch",
    "faiss": "curation.kmeans.backends.faiss",
}


def backend_of(name: str, device: str) -> Callable[[Any], Any]:
    """Return what makes a `Nearest` of points (n, dim) on a device."""
    return partial(import_module(BACKENDS[name]).load, device=device)
