"""Strategy `as_is`: the seed images themselves, as ImageNet-22k in LVD-142M (DINOv2, table 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from curation.stages.retrieve.strategies.arm import Expected, SeededArm

if TYPE_CHECKING:
    from curation.stages.retrieve.strategies.evidence import ArmClaims, Evidence


class StrategyArm(SeededArm):
    """Every eligible image of the seed set."""

    strategy: Literal["as_is"]
    """`as_is`: claims every eligible image of the seed set."""

    def expected(self, images: int | None) -> Expected:
        """Return the size of the seed set; nothing is retrieved."""
        return Expected(requested=images, retrieved=None, final=images)


def claim(arm: StrategyArm, evidence: Evidence, seed: int) -> ArmClaims:
    """Claim each eligible seed image once.

    Args:
        arm: parameters of the arm.
        evidence: what strategies may use.
        seed: of the recipe; not used, as nothing is drawn.
    """
    from curation.stages.retrieve.strategies.evidence import ArmClaims

    images = evidence.seed_images(arm.seeds)
    return ArmClaims(
        images=images,
        seed_images=images,
        requested=evidence.seed_rows(arm.seeds),
        available=len(images),
    )
