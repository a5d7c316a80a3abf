"""Strategy `hierarchical`: a balanced sample of the pool over levels of clusters.

Vo et al. 2024: Automatic Data Curation for Self-Supervised Learning, https://arxiv.org/abs/2405.15613,
section 3.3. DINOv3 builds LVD-1689M in this way.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from curation.stages.retrieve.strategies.arm import Arm, Expected

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import int64, uint64

    from curation.algorithms.arrays.vectors import RowNumbers
    from curation.stages.retrieve.strategies.evidence import (
        ArmClaims,
        ArmCounts,
        ArmPlan,
        Evidence,
    )

    Integers = npt.NDArray[int64]
    Keys = npt.NDArray[uint64]


class StrategyArm(Arm):
    """A balanced sample of the pool.

    The target is shared out over the coarsest clusters as evenly as their sizes allow, and then over
    the clusters below each of them, down to the finest level.
    """

    uses: ClassVar = ("pool", "clusters")

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


def plan(arm: StrategyArm, counts: ArmCounts, seed: int) -> ArmPlan:
    """Share the target out over all levels of clusters.

    Args:
        arm: parameters of the arm.
        counts: images of the pool by cluster.
        seed: of the recipe.
    """
    import numpy as np

    from curation.algorithms.kmeans.balance import CLUSTERS_AT_ONCE
    from curation.stages.retrieve.strategies.evidence import ArmPlan

    size = counts.pool_in_clusters()
    share = _shares(size if arm.multiplier == 1 else size * arm.multiplier, counts, arm, seed)
    # Millions of clusters take half of the memory where no number needs more.
    kind = np.int32 if size.max(initial=0) < 2**31 else np.int64
    every_image, remainder = (np.empty(len(size), kind) for _ in range(2))
    for start in range(0, len(size), CLUSTERS_AT_ONCE):
        part = slice(start, start + CLUSTERS_AT_ONCE)
        # Every image of a cluster is claimed equally often, and the first ones once more.
        every_image[part], remainder[part] = np.divmod(share[part], np.maximum(size[part], 1))
    return ArmPlan(arm.target, {"every_image": every_image, "remainder": remainder})


def claim(arm: StrategyArm, evidence: Evidence, plan: ArmPlan, seed: int) -> ArmClaims:
    """Claim each pool image as often as its cluster allows; the last claims on images compete.

    Args:
        arm: parameters of the arm.
        evidence: what is known of some images.
        plan: of the arm.
        seed: of the recipe.
    """
    import numpy as np

    from curation.engine.sorted_arrays import ranks_in_runs
    from curation.stages.retrieve.strategies.evidence import ArmClaims, Limits

    pool = evidence.pool
    clustered = np.flatnonzero(pool.cluster_id >= 0)
    every_image, remainder = (
        plan.values[name][pool.cluster_id[clustered]] for name in ("every_image", "remainder")
    )
    chosen = np.repeat(clustered, every_image + (remainder > 0))
    rank = ranks_in_runs(chosen) + 1
    clusters = pool.cluster_id[chosen]
    is_last = rank > plan.values["every_image"][clusters]
    return ArmClaims(
        images=pool.images[chosen],
        available=len(clustered) * arm.multiplier,
        similarity=pool.similarity[chosen],
        rank=rank.astype(np.int32),
        cluster_id=clusters,
        limits=Limits(
            clusters,
            _order(arm, evidence, chosen, seed),
            np.where(is_last, plan.values["remainder"][clusters], -1),
        ),
    )


def _order(arm: StrategyArm, evidence: Evidence, rows: RowNumbers, seed: int) -> Keys:
    """Return for some pool images a number by which those to claim first come first."""
    from curation.algorithms.arrays.seeded_order import seeded_keys
    from curation.engine.sorted_arrays import ascending_keys

    if arm.leaf == "nearest":
        return ascending_keys(-evidence.pool.similarity[rows])
    return seeded_keys(evidence.pool.images[rows], seed, arm.name)


def _shares(leaves: Integers, counts: ArmCounts, arm: StrategyArm, seed: int) -> Integers:
    """Return how many claims each cluster of level 0 gives: the target divided from the top down.

    Args:
        leaves: number of possible claims in each cluster of level 0, (k,).
        counts: of the whole, of which the levels of clusters are used.
        arm: parameters of the arm.
        seed: of the recipe.
    """
    import numpy as np

    from curation.algorithms.kmeans.balance import (
        even_shares,
        even_shares_in_blocks,
        sum_by_parent,
    )

    parents, sizes = counts.parents, [leaves]
    for level, parent in enumerate(parents):
        sizes.append(sum_by_parent(sizes[-1], parent, counts.clusters_at(level + 1)))
    top = len(parents)
    share = even_shares(sizes[top], arm.target, _keys(np.arange(len(sizes[top])), arm, seed, top))
    for level in range(top - 1, -1, -1):
        keys_of = partial(_keys, arm=arm, seed=seed, level=level)
        share = even_shares_in_blocks(sizes[level], parents[level], share, keys_of)
    return share


def _keys(clusters: RowNumbers, arm: StrategyArm, seed: int, level: int) -> Keys:
    """Return a pseudo-random number for each of some clusters of a level, by their numbers.

    They decide about remainders.
    """
    import numpy as np

    from curation.algorithms.arrays.seeded_order import seeded_keys
    from curation.algorithms.kmeans.balance import CLUSTERS_AT_ONCE

    keys = np.empty(len(clusters), np.uint64)
    for start in range(0, len(clusters), CLUSTERS_AT_ONCE):
        part = slice(start, start + CLUSTERS_AT_ONCE)
        cluster_ids = np.char.mod("%032x", clusters[part]).astype("S32")
        keys[part] = seeded_keys(cluster_ids, seed, arm.name, "level", level)
    return keys
