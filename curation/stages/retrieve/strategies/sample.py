"""The k nearest pool images of each seed image (DINOv2, appendix A.3; k = 4 or 32)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from curation.stages.retrieve.strategies.arm import Expected, SeededArm

if TYPE_CHECKING:
    from curation.algorithms.arrays.vectors import RowNumbers
    from curation.stages.retrieve.strategies.evidence import ArmClaims, Evidence, Matches


class StrategyArm(SeededArm):
    """The nearest pool images of each seed image.

    The paper leaves open what happens when two seed images retrieve the same pool image. Its published
    numbers are exact multiples of k, so `collisions: count` is the default.
    """

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

    def neighbours_needed(self) -> int:
        """Return k, or as many as a reassigned seed may look at."""
        return self.k * self.candidates if self.collisions == "reassign" else self.k

    def expected(self, images: int | None) -> Expected:
        """Return k for each seed image, at most the cap."""
        if images is None:
            return Expected(None, None, None)
        asked = self.k * images
        return Expected(asked, asked, asked if self.cap is None else min(asked, self.cap))


def claim(arm: StrategyArm, evidence: Evidence, seed: int) -> ArmClaims:
    """Claim the nearest pool images of each eligible seed image."""
    from curation.stages.retrieve.strategies.evidence import ArmClaims, apply_cap

    found = evidence.matches(arm.seeds)
    within = found.take(found.rank <= arm.k)
    if arm.collisions == "reassign":
        chosen = found.take(_reassigned(found, arm.k))
    elif arm.collisions == "once":
        chosen = within.take(_first_claims(within))
    else:
        chosen = within
    claimed = ArmClaims(
        images=chosen.images,
        seed_images=chosen.seed_images,
        similarity=chosen.similarity,
        rank=chosen.rank,
        requested=arm.k * len(evidence.seed_images(arm.seeds)),
        available=len(within),
    )
    return apply_cap(claimed, arm.cap, seed, arm.name)


def _by_similarity(found: Matches) -> RowNumbers:
    """Return the order of claims by falling similarity, then seed image, then image."""
    import numpy as np

    return np.lexsort((found.images, found.seed_images, -found.similarity))


def _first_claims(found: Matches) -> RowNumbers:
    """Return which claims are the best on their image."""
    import numpy as np

    order = _by_similarity(found)
    _, first = np.unique(found.images[order], return_index=True)
    return np.sort(order[first])


def _reassigned(found: Matches, k: int) -> RowNumbers:
    """Return which claims stand when images go to their most similar seed that still needs any.

    Going through all claims by falling similarity makes the result independent of any order of
    seeds.
    """
    import numpy as np

    _, image = np.unique(found.images, return_inverse=True)
    _, seed_image = np.unique(found.seed_images, return_inverse=True)
    taken = np.zeros(image.max(initial=-1) + 1, dtype=bool)
    got = np.zeros(seed_image.max(initial=-1) + 1, dtype=np.int64)
    kept = []
    for row in _by_similarity(found):
        if not taken[image[row]] and got[seed_image[row]] < k:
            taken[image[row]] = True
            got[seed_image[row]] += 1
            kept.append(row)
    return np.sort(np.array(kept, dtype=np.int64))
