"""Strategy `cluster`: pool images of the clusters that hold seed images (DINOv2, appendix A.3).

With all images of each cluster that holds a seed image, it is the image-based filter of DataComp (Gadre
et al. 2023, https://arxiv.org/abs/2304.14108).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from curation.engine.params_base import execution_only, refuse_without_effect
from curation.stages.retrieve.strategies.arm import Expected, SeededArm

if TYPE_CHECKING:
    from curation.stages.retrieve.strategies.evidence import ArmClaims, ArmCounts, ArmPlan, Evidence


class StrategyArm(SeededArm):
    """A sample of the pool images of each cluster that holds enough seed images."""

    uses: ClassVar = ("pool", "clusters")

    strategy: Literal["cluster"]
    """`cluster`: claims pool images of the clusters that hold seed images."""
    per_cluster: int | None = Field(default=10_000, ge=1)
    """Number of pool images that are sampled from each such cluster; null takes all of them."""
    more_than: int = Field(default=3, ge=0)
    """A cluster is sampled if it holds more than this number of seed images."""
    level: int = Field(default=0, ge=0, le=7)
    """Level of the clusters; 0 is the finest."""
    cap: int | None = Field(default=1_000_000, ge=0)
    """Largest number of claims of the arm, a sample of all its claims; null sets no limit."""
    small_clusters: Literal["take_all", "skip"] = "take_all"
    """Whether a cluster with fewer than `per_cluster` pool images gives all of them or none; the paper
    leaves this open."""
    expected_clusters: int | None = execution_only(None, ge=0)
    """Number of sampled clusters that plans and costs are computed with; a run ignores it."""

    @model_validator(mode="after")
    def _fields_have_an_effect(self) -> StrategyArm:
        if self.per_cluster is None:
            names = ("small_clusters", "expected_clusters")
            fix = "Set per_cluster, or leave it out"
            refuse_without_effect(self, names, "with per_cluster: null", fix)
        return self

    def level_of_clusters(self) -> int:
        """Return `level`."""
        return self.level

    def largest_claims(self) -> int | None:
        """Return the cap of the arm."""
        return self.cap

    def expected(self, images: int | None) -> Expected:
        """Return `per_cluster` for each expected cluster, at most the cap."""
        if self.expected_clusters is None or self.per_cluster is None:
            return Expected(None, None, None)
        requested = self.expected_clusters * self.per_cluster
        return Expected(
            requested, requested, requested if self.cap is None else min(requested, self.cap)
        )


def plan(arm: StrategyArm, counts: ArmCounts, seed: int) -> ArmPlan:
    """Choose the clusters that hold enough seed images.

    Args:
        arm: parameters of the arm.
        counts: images of the pool and of the seed set, by cluster.
        seed: of the recipe; not used, as nothing is drawn yet.
    """
    import numpy as np

    from curation.stages.retrieve.strategies.evidence import ArmPlan

    clusters = np.flatnonzero(counts.seeds_in_clusters(arm.level) > arm.more_than)
    size = counts.pool_in_clusters(arm.level)[clusters]
    per_cluster = arm.per_cluster
    requested = int(size.sum()) if per_cluster is None else len(clusters) * per_cluster
    return ArmPlan(requested, {"clusters": clusters, "size": size})


def claim(arm: StrategyArm, evidence: Evidence, plan: ArmPlan, seed: int) -> ArmClaims:
    """Claim the pool images of the chosen clusters; a seeded sample of each cluster is kept.

    Args:
        arm: parameters of the arm.
        evidence: what is known of some images.
        plan: of the arm.
        seed: of the recipe.
    """
    import numpy as np

    from curation.algorithms.arrays.seeded_order import seeded_keys
    from curation.engine.sorted_arrays import positions_in
    from curation.stages.retrieve.strategies.evidence import ArmClaims, Limits

    pool = evidence.pool
    clusters = evidence.at_level(arm.level, pool.cluster_id)
    position, is_chosen = positions_in(clusters, plan.values["clusters"])
    available = int(is_chosen.sum())
    if arm.per_cluster is not None and arm.small_clusters == "skip":
        sizes = np.append(plan.values["size"], 0)
        is_chosen &= sizes[position] >= arm.per_cluster
    rows = np.flatnonzero(is_chosen)
    limits = None
    if arm.per_cluster is not None:
        # The first images of each cluster in a seeded order are a random sample of it.
        order = seeded_keys(pool.images[rows], seed, arm.name)
        is_larger = plan.values["size"][position[rows]] > arm.per_cluster
        limits = Limits(clusters[rows], order, np.where(is_larger, arm.per_cluster, -1))
    return ArmClaims(
        images=pool.images[rows],
        available=available,
        similarity=pool.similarity[rows],
        cluster_id=clusters[rows],
        limits=limits,
    )
