"""Strategy `cluster`: pool images of the clusters that hold seed images (DINOv2, appendix A.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from curation.stages.retrieve.strategies.arm import Expected, SeededArm

if TYPE_CHECKING:
    from curation.stages.retrieve.strategies.evidence import ArmClaims, Evidence


class StrategyArm(SeededArm):
    """A sample of the pool images of each cluster that holds enough seed images."""

    strategy: Literal["cluster"]
    """`cluster`: claims pool images of the clusters that hold seed images."""
    per_cluster: int = Field(default=10_000, ge=1)
    """Number of pool images that are sampled from each such cluster."""
    more_than: int = Field(default=3, ge=0)
    """A cluster is sampled if it holds more than this number of seed images."""
    level: int = Field(default=0, ge=0, le=7)
    """Level of the clusters; 0 is the finest."""
    cap: int | None = Field(default=1_000_000, ge=0)
    """Largest number of claims of the arm, a sample of all its claims; null sets no limit."""
    small_clusters: Literal["take_all", "skip"] = "take_all"
    """Whether a cluster with fewer than `per_cluster` pool images gives all of them or none; the paper
    leaves this open."""
    expected_clusters: int | None = Field(default=None, ge=0)
    """Number of sampled clusters that plans and costs are computed with; a run ignores it."""

    def expected(self, images: int | None) -> Expected:
        """Return `per_cluster` for each expected cluster, at most the cap."""
        if self.expected_clusters is None:
            return Expected(None, None, None)
        requested = self.expected_clusters * self.per_cluster
        return Expected(
            requested, requested, requested if self.cap is None else min(requested, self.cap)
        )


def claim(arm: StrategyArm, evidence: Evidence, seed: int) -> ArmClaims:
    """Claim a seeded sample of each cluster that holds enough seed images.

    Args:
        arm: parameters of the arm.
        evidence: what strategies may use.
        seed: of the recipe.
    """
    import numpy as np

    from curation.algorithms.arrays.seeded_order import seeded_order
    from curation.engine.sorted_arrays import ranks_in_runs
    from curation.stages.retrieve.strategies.evidence import ArmClaims, apply_cap

    seeds = evidence.at_level(arm.level, evidence.seed_clusters(arm.seeds))
    numbers, seed_images = np.unique(seeds[seeds >= 0], return_counts=True)
    matching = numbers[seed_images > arm.more_than]
    pool = evidence.pool
    clusters = evidence.at_level(arm.level, pool.cluster_id)
    rows = np.flatnonzero(np.isin(clusters, matching))
    # The first images of each cluster in a seeded order are a random sample of it.
    rows = rows[seeded_order(pool.images[rows], seed, arm.name)]
    rows = rows[np.argsort(clusters[rows], kind="stable")]
    keep = ranks_in_runs(clusters[rows]) < arm.per_cluster
    if arm.small_clusters == "skip":
        _, size = np.unique(clusters[rows], return_counts=True)
        keep &= np.repeat(size >= arm.per_cluster, size)
    chosen = rows[keep]
    claims = ArmClaims(
        images=pool.images[chosen],
        similarity=pool.similarity[chosen],
        cluster_id=clusters[chosen],
        requested=len(matching) * arm.per_cluster,
        available=len(rows),
    )
    return apply_cap(claims, arm.cap, seed, arm.name)
