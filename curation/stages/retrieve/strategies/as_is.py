"""Strategy `as_is`: the seed images themselves, as ImageNet-22k in LVD-142M (DINOv2, table 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from curation.stages.retrieve.strategies.arm import Expected, SeededArm

if TYPE_CHECKING:
    from curation.stages.retrieve.strategies.evidence import ArmClaims, ArmCounts, ArmPlan, Evidence


class StrategyArm(SeededArm):
    """Every eligible image of the seed set."""

    claims_seeds: ClassVar[bool] = True
    uses: ClassVar = ("seeds",)

    strategy: Literal["as_is"]
    """`as_is`: claims every eligible image of the seed set."""

    def expected(self, images: int | None) -> Expected:
        """Return the size of the seed set; nothing is retrieved."""
        return Expected(requested=images, retrieved=None, final=images)


def plan(arm: StrategyArm, counts: ArmCounts, seed: int) -> ArmPlan:
    """Request every row of the seed set."""
    from curation.stages.retrieve.strategies.evidence import ArmPlan

    return ArmPlan(requested=counts.seed_rows)


def claim(arm: StrategyArm, evidence: Evidence, plan: ArmPlan, seed: int) -> ArmClaims:
    """Claim each eligible seed image once.

    Args:
        arm: parameters of the arm.
        evidence: what is known of some images.
        plan: of the arm.
        seed: of the recipe; not used, as nothing is drawn.
    """
    from curation.stages.retrieve.strategies.evidence import ArmClaims

    images = evidence.seeds.images
    return ArmClaims(images=images, available=len(images), seed_images=images)
