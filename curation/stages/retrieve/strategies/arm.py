"""What every retrieval arm has, and the row of the composition that it expects or gives."""

from __future__ import annotations

from typing import NamedTuple

from curation.engine.params_base import Name, StrictModel


class Expected(NamedTuple):
    """What an arm is expected to give, in images; None where the counts do not tell."""

    requested: int | None
    retrieved: int | None
    final: int | None


class Arm(StrictModel):
    """A strategy, most often with a seed set. Several arms may use the same seed set."""

    name: Name
    """Name of the arm, unique in the recipe."""
    seeds: Name | None = None
    """Name of the source with `role: seed` that the arm starts from; null if it needs none."""
    strategy: str
    """Name of the strategy that chooses the images."""

    def neighbours_needed(self) -> int:
        """Return how many pool neighbours of each seed image the arm looks at."""
        return 0

    def expected(self, images: int | None) -> Expected:
        """Return what the arm gives when its seed set has `images` images; None where unknown."""
        return Expected(None, None, None)


class SeededArm(Arm):
    """An arm that starts from a seed set."""

    seeds: Name
    """Name of the source with `role: seed` that the arm starts from."""
