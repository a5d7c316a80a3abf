"""Strategy `sample`: the k nearest pool images of each seed image (DINOv2, appendix A.3).

DINOv2 takes k = 4 or 32.
"""

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
        """Return k, or the number of candidates of a seed image with `reassign`."""
        return self.k * self.candidates if self.collisions == "reassign" else self.k

    def expected(self, images: int | None) -> Expected:
        """Return k for each seed image, at most the cap."""
        if images is None:
            return Expected(None, None, None)
        requested = self.k * images
        return Expected(
            requested, requested, requested if self.cap is None else min(requested, self.cap)
        )


def claim(arm: StrategyArm, evidence: Evidence, seed: int) -> ArmClaims:
    """Claim the nearest pool images of each eligible seed image.

    Args:
        arm: parameters of the arm.
        evidence: what strategies may use.
        seed: of the recipe.
    """
    from curation.stages.retrieve.strategies.evidence import ArmClaims, apply_cap

    matches = evidence.matches(arm.seeds)
    nearest = matches.take(matches.rank <= arm.k)
    if arm.collisions == "reassign":
        chosen = matches.take(_reassign(matches, arm.k))
    elif arm.collisions == "once":
        chosen = nearest.take(_most_similar_per_image(nearest))
    else:
        chosen = nearest
    claims = ArmClaims(
        images=chosen.images,
        seed_images=chosen.seed_images,
        similarity=chosen.similarity,
        rank=chosen.rank,
        requested=arm.k * len(evidence.seed_images(arm.seeds)),
        available=len(nearest),
    )
    return apply_cap(claims, arm.cap, seed, arm.name)


def _by_similarity(matches: Matches) -> RowNumbers:
    """Return the order of matches by descending similarity, then seed image, then image."""
    import numpy as np

    return np.lexsort((matches.images, matches.seed_images, -matches.similarity))


def _most_similar_per_image(matches: Matches) -> RowNumbers:
    """Return for each pool image the match with the most similar seed image."""
    import numpy as np

    order = _by_similarity(matches)
    _, first = np.unique(matches.images[order], return_index=True)
    return np.sort(order[first])


def _reassign(matches: Matches, k: int) -> RowNumbers:
    """Return the matches that remain if each pool image goes to one seed image, at most k to each.

    Each image goes to the most similar seed image that has fewer than k yet. Matches are taken by
    descending similarity, so that the result does not depend on an order of seed images.
    """
    import numpy as np

    _, image = np.unique(matches.images, return_inverse=True)
    _, seed_image = np.unique(matches.seed_images, return_inverse=True)
    is_taken = np.zeros(image.max(initial=-1) + 1, dtype=bool)
    count = np.zeros(seed_image.max(initial=-1) + 1, dtype=np.int64)
    chosen = []
    for row in _by_similarity(matches):
        if not is_taken[image[row]] and count[seed_image[row]] < k:
            is_taken[image[row]] = True
            count[seed_image[row]] += 1
            chosen.append(row)
    return np.sort(np.array(chosen, dtype=np.int64))
