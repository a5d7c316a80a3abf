"""The back ends of k-means by name: each finds the same exact nearest centroids, at its own speed.

A new back end is a file in this folder with `load(vectors, device)`, and a line in `BACKENDS`. See
docs/extending.md. Back ends give the same bits, so no memo names them.
"""

from __future__ import annotations

from curation.engine.registry import Entry, Registry

BACKENDS = Registry(
    "back end",
    "curation.algorithms.kmeans.backends",
    {"torch": Entry(), "faiss": Entry()},
    same_results=True,
)
