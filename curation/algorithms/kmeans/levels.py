"""Going up the levels of the table `centroids`, from clusters to their parents."""

from __future__ import annotations

import numpy as np

from curation.algorithms.kmeans.backends.nearest import ClusterIds
from curation.engine.table import Table
from curation.errors import RecipeError


def read_parents(centroids: Table) -> tuple[ClusterIds, ...]:
    """Return for each level but the coarsest the parent of each of its clusters, (k,).

    A parent is the number of a cluster of the next level.
    """
    levels = [
        fragment.read(["cluster_id", "parent_id"]).sort_by("cluster_id").column("parent_id")
        for fragment in centroids.fragments.values()
    ]
    return tuple(parent.to_numpy().astype(np.int32) for parent in levels[:-1])


def at_level(level: int, clusters: ClusterIds, parents: tuple[ClusterIds, ...]) -> ClusterIds:
    """Return the clusters of a level that contain some clusters of level 0.

    Args:
        level: 0 for the finest.
        clusters: numbers of clusters of level 0, (n,); -1 stands for no cluster.
        parents: as `read_parents` returns them.

    Returns:
        Numbers of clusters of the level, (n,), or -1.

    Raises:
        RecipeError: there is no such level.
    """
    if level > len(parents):
        raise RecipeError(
            f"An arm asks for clusters of level {level}; the coarsest level is {len(parents)} "
            "(0 is the finest)",
            fix="Add levels to cluster.levels, or lower the level of the arm",
        )
    for parent in parents[:level]:
        # Index -1 reads the last element, which stands for no cluster.
        clusters = np.append(parent, np.int32(-1))[clusters]
    return clusters
