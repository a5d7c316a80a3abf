"""The fields that every retrieval arm has, and the counts that a plan expects of it."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, TypeAlias

from curation.engine.params_base import Name, StrictModel

Use: TypeAlias = Literal["pool", "seeds", "matches", "clusters"]
"""What a strategy may use: eligible images of the pool, or of the seed set of the arm; pool neighbours
of these; or, when it plans, the number of images in each cluster."""


class Expected(NamedTuple):
    """The counts that a plan expects of an arm, None where they are unknown.

    Attributes:
        requested: number of claims that the parameters request.
        retrieved: number of claims before caps.
        final: number of claims after the cap of the arm.
    """

    requested: int | None
    retrieved: int | None
    final: int | None


class Arm(StrictModel):
    """A strategy, most often with a seed set. Several arms may use the same seed set."""

    takes_pool: ClassVar[bool] = False
    """Whether it claims the whole eligible pool, so that a plan can expect as many claims as images."""
    claims_seeds: ClassVar[bool] = False
    """Whether it claims images of its seed set. Other arms claim images of the pool."""
    uses: ClassVar[tuple[Use, ...]] = ()
    """What `plan` and `claim` of its strategy use; nothing else is computed, or sent to workers."""

    name: Name
    """Name of the arm, unique in the recipe."""
    seeds: Name | None = None
    """Name of the source with `role: seed` that the arm starts from; null if it needs none."""
    strategy: str
    """Name of the strategy that chooses the images."""

    def level_of_clusters(self) -> int:
        """Return the level of the clusters that the arm claims from; 0 is the finest."""
        return 0

    def neighbours_needed(self) -> int:
        """Return how many pool neighbours of each seed image the arm needs from `match`."""
        return 0

    def matches_each_image_once(self) -> int | None:
        """Return the largest number of matches of a seed image, if each pool image may match one only.

        By default None: `claim` gets all matches.
        """
        return None

    def largest_claims(self) -> int | None:
        """Return the cap: the largest number of claims of the arm, which are drawn; None for no cap."""
        return None

    def expected(self, images: int | None) -> Expected:
        """Return the counts that a plan expects.

        Args:
            images: number of images of the seed set; None if it is unknown.
        """
        return Expected(None, None, None)


class SeededArm(Arm):
    """An arm that starts from a seed set."""

    seeds: Name
    """Name of the source with `role: seed` that the arm starts from."""
