"""Strategy `sample`: the k nearest pool images of each seed image (DINOv2, appendix A.3).

DINOv2 takes k = 4 or 32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from curation.engine.params_base import refuse_without_effect
from curation.stages.retrieve.strategies.arm import Expected, SeededArm

if TYPE_CHECKING:
    from curation.algorithms.arrays.vectors import RowNumbers
    from curation.stages.retrieve.strategies.evidence import (
        ArmClaims,
        ArmCounts,
        ArmPlan,
        Evidence,
        Matches,
    )


class StrategyArm(SeededArm):
    """The nearest pool images of each seed image.

    The paper leaves open what happens when two seed images retrieve the same pool image. Its published
    numbers are exact multiples of k, so `collisions: count` is the default.
    """

    uses: ClassVar = ("matches",)

    strategy: Literal["sample"]
    """`sample`: claims the nearest pool images of each seed image."""
    k: int = Field(default=4, ge=1, le=1024)
    """Number of nearest pool images that each seed image claims."""
    collisions: Literal["count", "once", "reassign"] = "count"
    """What happens when several seed images retrieve one pool image: `count` keeps a claim for each of
    them, `once` keeps only the claim of the most similar one, and `reassign` also lets the others claim
    their next neighbour."""
    candidates: int = Field(default=4, ge=1, le=64)
    """With `reassign`, each seed image chooses among its k · `candidates` nearest pool images."""
    cap: int | None = Field(default=None, ge=0)
    """Largest number of claims of the arm, a sample of all its claims; null sets no limit."""

    @model_validator(mode="after")
    def _candidates_have_an_effect(self) -> StrategyArm:
        if self.collisions != "reassign":
            fix = "Set collisions: reassign, or leave it out"
            refuse_without_effect(self, ["candidates"], f"with collisions: {self.collisions}", fix)
        return self

    def neighbours_needed(self) -> int:
        """Return k, or the number of candidates of a seed image with `reassign`."""
        return self.k * self.candidates if self.collisions == "reassign" else self.k

    def matches_each_image_once(self) -> int | None:
        """Return k with `reassign`."""
        return self.k if self.collisions == "reassign" else None

    def largest_claims(self) -> int | None:
        """Return the cap of the arm."""
        return self.cap

    def expected(self, images: int | None) -> Expected:
        """Return k for each seed image, at most the cap."""
        if images is None:
            return Expected(None, None, None)
        requested = self.k * images
        return Expected(
            requested, requested, requested if self.cap is None else min(requested, self.cap)
        )


def plan(arm: StrategyArm, counts: ArmCounts, seed: int) -> ArmPlan:
    """Request k images for each eligible image of the seed set."""
    from curation.stages.retrieve.strategies.evidence import ArmPlan

    return ArmPlan(requested=arm.k * counts.seed_images)


def claim(arm: StrategyArm, evidence: Evidence, plan: ArmPlan, seed: int) -> ArmClaims:
    """Claim the nearest pool images of each eligible seed image.

    Args:
        arm: parameters of the arm.
        evidence: what is known of some images.
        plan: of the arm.
        seed: of the recipe; not used, as nothing is drawn here.
    """
    from curation.stages.retrieve.strategies.evidence import ArmClaims

    matches = evidence.matches
    nearest = matches.take(matches.rank <= arm.k)
    chosen = nearest
    if arm.collisions == "reassign":
        chosen = evidence.single_matches
    elif arm.collisions == "once":
        chosen = nearest.take(_most_similar_per_image(nearest))
    return ArmClaims(
        images=chosen.images,
        available=len(nearest),
        seed_images=chosen.seed_images,
        similarity=chosen.similarity,
        rank=chosen.rank,
    )


def _most_similar_per_image(matches: Matches) -> RowNumbers:
    """Return for each pool image the match with the most similar seed image."""
    import numpy as np

    order = np.lexsort((matches.images, matches.seed_images, -matches.similarity))
    _, first = np.unique(matches.images[order], return_index=True)
    return np.sort(order[first])
