"""Going up the levels of the table `centroids`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.engine.table import Table
from curation.errors import RecipeError

ClusterIds = npt.NDArray[np.int32]


def read_parents(centroids: Table) -> tuple[ClusterIds, ...]:
    """Return for each level but the coarsest the cluster of the next level of each of its clusters."""
    levels = [
        fragment.read(["cluster_id", "parent_id"]).sort_by("cluster_id").column("parent_id")
        for fragment in centroids.fragments.values()
    ]
    return tuple(parent.to_numpy().astype(np.int32) for parent in levels[:-1])


def at_level(level: int, clusters: ClusterIds, parents: tuple[ClusterIds, ...]) -> ClusterIds:
    """Return the clusters of a level that hold clusters of level 0 (−1 stays −1).

    Raises:
        RecipeError: there is no such level.
    """
    if level > len(parents):
        raise RecipeError(
            f"An arm asks for clusters of level {level}; the coarsest level is {len(parents)} (0 is "
            "the finest). Give cluster.levels more levels, or lower the arm's level."
        )
    for parent in parents[:level]:
        # Number −1 reads the last place, which stands for no cluster.
        clusters = np.append(parent, np.int32(-1))[clusters]
    return clusters
