"""How many fragments a task assigns while it reads the centroids once."""

from __future__ import annotations

from collections.abc import Mapping

from curation.engine.table import Table
from curation.stages.assign.params import AssignStep


def bytes_at_once(embeddings: Mapping[str, Table], centroids: Table, *, params: AssignStep) -> int:
    """Return how many bytes of embeddings a task assigns at most. See `bytes_for`."""
    finest = next(iter(centroids.fragments.values()))
    return bytes_for(sum(file.size for file in finest.record.files), params.assign_gib)


def bytes_for(centroid_bytes: float, gib: float) -> int:
    """Return how many bytes of vectors a task assigns, at most, while it reads the centroids once.

    They are as many as those of the centroids, if memory allows: all tasks together then read no more
    of centroids than of vectors.

    Args:
        centroid_bytes: those of all centroids of the finest level.
        gib: memory for vectors, in GiB.
    """
    return max(1, int(min(centroid_bytes, gib * 2**30)))
