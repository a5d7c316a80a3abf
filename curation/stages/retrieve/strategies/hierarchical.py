"""Balanced sampling of the pool over levels of clusters (Vo et al. 2024, section 3.3; LVD-1689M)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from curation.stages.retrieve.strategies.arm import Arm, Expected

if TYPE_CHECKING:
    import numpy.typing as npt
    from numpy import int32, int64, uint64

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
    """Claim `target` pool images, or all there are."""
    import numpy as np

    from curation.stages.retrieve.strategies.evidence import ArmClaims

    pool = evidence.pool
    placed = np.flatnonzero(pool.cluster_id >= 0)
    clusters = pool.cluster_id[placed]
    size = np.bincount(clusters, minlength=len(evidence.parents[0]) if evidence.parents else 0)
    share = _shares(size * arm.multiplier, evidence.parents, arm, seed)
    # Every image of a cluster so many times, and some of them once more.
    whole, more = np.divmod(share, np.maximum(size, 1))
    order = _order_in_cluster(arm, evidence, placed, seed)
    own = clusters[order]
    place = np.arange(len(order)) - (np.cumsum(size) - size)[own]
    times = whole[own] + (place < more[own])
    chosen = np.repeat(placed[order], times)
    again = np.arange(len(chosen)) - np.repeat(np.cumsum(times) - times, times)
    return ArmClaims(
        images=pool.images[chosen],
        similarity=pool.similarity[chosen],
        rank=(again + 1).astype(np.int32),
        cluster_id=pool.cluster_id[chosen],
        requested=arm.target,
        available=len(placed) * arm.multiplier,
    )


def _shares(
    leaves: Counts, parents: tuple[npt.NDArray[int32], ...], arm: StrategyArm, seed: int
) -> Counts:
    """Return how many claims each cluster of level 0 gives, from the coarsest level down."""
    import numpy as np

    from curation.algorithms.kmeans.balance import even_shares, even_shares_by_parent

    sizes = [leaves.astype(np.int64)]
    for level, parent in enumerate(parents):
        many = len(parents[level + 1]) if level + 1 < len(parents) else int(parent.max()) + 1
        above = np.bincount(parent, weights=sizes[-1], minlength=many)
        sizes.append(above.astype(np.int64))
    share = even_shares(sizes[-1], arm.target, _keys(len(sizes[-1]), arm, seed, len(parents)))
    for level in range(len(parents) - 1, -1, -1):
        keys = _keys(len(sizes[level]), arm, seed, level)
        share = even_shares_by_parent(sizes[level], parents[level].astype(np.int64), share, keys)
    return share


def _keys(count: int, arm: StrategyArm, seed: int, level: int) -> npt.NDArray[uint64]:
    import numpy as np

    from curation.algorithms.arrays.seeded_order import seeded_keys

    names = np.char.mod("%032x", np.arange(count)).astype("S32")
    return seeded_keys(names, seed, arm.name, "level", level)


def _order_in_cluster(arm: StrategyArm, evidence: Evidence, placed: Counts, seed: int) -> Counts:
    """Return the pool's images cluster by cluster, those to take first first."""
    import numpy as np

    from curation.algorithms.arrays.seeded_order import seeded_keys

    pool = evidence.pool
    names, clusters = pool.images[placed], pool.cluster_id[placed]
    if arm.leaf == "nearest":
        return np.lexsort((names, -pool.similarity[placed], clusters))
    return np.lexsort((names, seeded_keys(names, seed, arm.name), clusters))
