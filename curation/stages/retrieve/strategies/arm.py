"""The fields that every retrieval arm has, and the counts that a plan expects of it."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from curation.engine.params_base import Name, StrictModel


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

    name: Name
    """Name of the arm, unique in the recipe."""
    seeds: Name | None = None
    """Name of the source with `role: seed` that the arm starts from; null if it needs none."""
    strategy: str
    """Name of the strategy that chooses the images."""

    def neighbours_needed(self) -> int:
        """Return how many pool neighbours of each seed image the arm needs from `match`."""
        return 0

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
