"""Strategy `everything`: the whole eligible pool, where copies and bad images are all that leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from curation.stages.retrieve.strategies.arm import Arm

if TYPE_CHECKING:
    from curation.stages.retrieve.strategies.evidence import ArmClaims, ArmCounts, ArmPlan, Evidence


class StrategyArm(Arm):
    """Every eligible image of the pool. A recipe without `retrieve` has one such arm."""

    takes_pool: ClassVar[bool] = True
    uses: ClassVar = ("pool",)

    strategy: Literal["everything"]
    """`everything`: claims every eligible image of the pool."""
    seeds: None = None
    """Always null: this strategy needs no seed set."""


def plan(arm: StrategyArm, counts: ArmCounts, seed: int) -> ArmPlan:
    """Request every eligible image of the pool."""
    from curation.stages.retrieve.strategies.evidence import ArmPlan

    return ArmPlan(requested=counts.pool_images)


def claim(arm: StrategyArm, evidence: Evidence, plan: ArmPlan, seed: int) -> ArmClaims:
    """Claim each eligible pool image once.

    Args:
        arm: parameters of the arm.
        evidence: what is known of some images.
        plan: of the arm.
        seed: of the recipe; not used, as nothing is drawn.
    """
    from curation.stages.retrieve.strategies.evidence import ArmClaims

    images = evidence.pool.images
    return ArmClaims(images=images, available=len(images))
