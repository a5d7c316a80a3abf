"""The back ends of k-means by name. Each finds the same exact nearest centroids, at its own speed.

A new back end is a module in this folder with a function `load(vectors, device)` that returns an
`Assigner`, and one entry in `BACKENDS`. All back ends give the same bits, so no memo depends on
which one was used.
"""

from __future__ import annotations

from curation.engine.registry import Entry, Registry

BACKENDS = Registry(
    "back end",
    "curation.algorithms.kmeans.backends",
    {"torch": Entry(), "faiss": Entry()},
    same_results=True,
)
