"""Going up the levels of the table `centroids`, from clusters to their parents."""

from __future__ import annotations

import numpy as np

from curation.algorithms.kmeans.backends.nearest import ClusterIds
from curation.engine.table import Table
from curation.errors import RecipeError
from curation.store.fragment import Fragment

ROWS_PER_BATCH = 65_536


def read_parents(centroids: Table) -> tuple[ClusterIds, ...]:
    """Return for each level but the coarsest the parent of each of its clusters, (k,).

    A parent is the number of a cluster of the next level.
    """
    return tuple(map(_parents_of, list(centroids.fragments.values())[:-1]))


def _parents_of(level: Fragment) -> ClusterIds:
    parents = np.empty(level.rows, np.int32)
    for batch in level.batches(["cluster_id", "parent_id"], rows=ROWS_PER_BATCH):
        cluster_ids, parent_ids = (column.to_numpy() for column in batch.columns)
        parents[cluster_ids] = parent_ids
    return parents


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
