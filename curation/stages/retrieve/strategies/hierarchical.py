"""Strategy `hierarchical`: a balanced sample of the pool over levels of clusters.

Vo et al. 2024: Automatic Data Curation for Self-Supervised Learning, https://arxiv.org/abs/2405.15613,
section 3.3. DINOv3 builds LVD-1689M in this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from curation.stages.retrieve.strategies.arm import Arm, Expected

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import int32, int64, uint64

    from curation.algorithms.arrays.vectors import RowNumbers
    from curation.stages.retrieve.strategies.evidence import ArmClaims, Evidence

    Counts = npt.NDArray[int64]


class StrategyArm(Arm):
    """A balanced sample of the pool.

    The target is shared out over the coarsest clusters as evenly as their sizes allow, and then over
    the clusters below each of them, down to the finest level.
    """

    strategy: Literal["hierarchical"]
    """`hierarchical`: claims a sample of the pool that is balanced over all levels of clusters."""
    seeds: None = None
    """Always null: this strategy needs no seed set."""
    target: int = Field(ge=0)
    """Number of claims of the arm."""
    leaf: Literal["random", "nearest"] = "random"
    """Which images of a finest cluster are claimed: a random sample, or those nearest to its
    centroid."""
    multiplier: int = Field(default=1, ge=1, le=1000)
    """Largest number of claims on one image; above 1, images of small clusters may be repeated."""

    def expected(self, images: int | None) -> Expected:
        """Return the target."""
        return Expected(self.target, self.target, self.target)


def claim(arm: StrategyArm, evidence: Evidence, seed: int) -> ArmClaims:
    """Claim `target` pool images, or all of them if there are fewer.

    Args:
        arm: parameters of the arm.
        evidence: what strategies may use.
        seed: of the recipe.
    """
    import numpy as np

    from curation.engine.sorted_arrays import ranks_in_runs
    from curation.stages.retrieve.strategies.evidence import ArmClaims

    pool = evidence.pool
    clustered = np.flatnonzero(pool.cluster_id >= 0)
    clusters = pool.cluster_id[clustered]
    size = np.bincount(clusters, minlength=len(evidence.parents[0]) if evidence.parents else 0)
    share = _shares(size * arm.multiplier, evidence.parents, arm, seed)
    # Every image of a cluster is claimed equally often, and the first ones once more.
    every_image, remainder = np.divmod(share, np.maximum(size, 1))
    order = _order_in_clusters(arm, evidence, clustered, seed)
    cluster_id = clusters[order]
    times = every_image[cluster_id] + (ranks_in_runs(cluster_id) < remainder[cluster_id])
    chosen = np.repeat(clustered[order], times)
    return ArmClaims(
        images=pool.images[chosen],
        similarity=pool.similarity[chosen],
        rank=(ranks_in_runs(chosen) + 1).astype(np.int32),
        cluster_id=pool.cluster_id[chosen],
        requested=arm.target,
        available=len(clustered) * arm.multiplier,
    )


def _shares(
    leaves: Counts, parents: tuple[npt.NDArray[int32], ...], arm: StrategyArm, seed: int
) -> Counts:
    """Return how many claims each cluster of level 0 gives: the target divided from the top down.

    Args:
        leaves: number of possible claims in each cluster of level 0, (k,).
        parents: see `Evidence`.
        arm: parameters of the arm.
        seed: of the recipe.
    """
    import numpy as np

    from curation.algorithms.kmeans.balance import even_shares, even_shares_by_parent

    sizes = [leaves.astype(np.int64)]
    for level, parent in enumerate(parents):
        count = len(parents[level + 1]) if level + 1 < len(parents) else int(parent.max()) + 1
        above = np.bincount(parent, weights=sizes[-1], minlength=count)
        sizes.append(above.astype(np.int64))
    share = even_shares(sizes[-1], arm.target, _keys(len(sizes[-1]), arm, seed, len(parents)))
    for level in range(len(parents) - 1, -1, -1):
        keys = _keys(len(sizes[level]), arm, seed, level)
        share = even_shares_by_parent(sizes[level], parents[level].astype(np.int64), share, keys)
    return share


def _keys(count: int, arm: StrategyArm, seed: int, level: int) -> npt.NDArray[uint64]:
    """Return a pseudo-random number for each cluster of a level, which decides about remainders."""
    import numpy as np

    from curation.algorithms.arrays.seeded_order import seeded_keys

    cluster_ids = np.char.mod("%032x", np.arange(count)).astype("S32")
    return seeded_keys(cluster_ids, seed, arm.name, "level", level)


def _order_in_clusters(
    arm: StrategyArm, evidence: Evidence, clustered: RowNumbers, seed: int
) -> RowNumbers:
    """Return the order of pool images by cluster, and in each cluster those to claim first.

    Args:
        arm: parameters of the arm.
        evidence: what strategies may use.
        clustered: the pool images that have a cluster, (n,).
        seed: of the recipe.

    Returns:
        A permutation, (n,).
    """
    import numpy as np

    from curation.algorithms.arrays.seeded_order import seeded_keys

    pool = evidence.pool
    ids, clusters = pool.images[clustered], pool.cluster_id[clustered]
    if arm.leaf == "nearest":
        return np.lexsort((ids, -pool.similarity[clustered], clusters))
    return np.lexsort((ids, seeded_keys(ids, seed, arm.name), clusters))
