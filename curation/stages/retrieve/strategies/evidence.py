"""What strategies see, and what they give: narrow columns of images, never pixels or vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.seeded_order import seeded_order
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.kmeans.levels import at_level

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Matches:
    """Neighbours of one seed set; every array has shape (n,)."""

    seed_images: Ids
    images: Ids
    similarity: Floats
    rank: Ints

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Matches:
        """Return some of the rows."""
        return Matches(
            self.seed_images[rows], self.images[rows], self.similarity[rows], self.rank[rows]
        )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class EligibleImages:
    """Unique eligible images in id order with their clusters (−1 for none), shape (n,) each."""

    images: Ids
    cluster_id: Ints
    similarity: Floats


@dataclass(frozen=True)
class Evidence:
    """Everything an arm may look at."""

    pool: EligibleImages
    seeds: Mapping[str, EligibleImages]
    seed_rows_by_set: Mapping[str, int]
    matches_by_set: Mapping[str, Matches]
    parents: tuple[Ints, ...] = ()
    """For each level but the coarsest, the cluster of the next level of each of its clusters."""

    def at_level(self, level: int, clusters: Ints) -> Ints:
        """Return the clusters of a level that hold clusters of level 0 (−1 stays −1)."""
        return at_level(level, clusters, self.parents)

    def seed_images(self, seed_set: str) -> Ids:
        """Return the eligible images of a seed set, in id order."""
        return self.seeds[seed_set].images

    def seed_rows(self, seed_set: str) -> int:
        """Return how many rows of the seed set were asked for, eligible or not."""
        return self.seed_rows_by_set[seed_set]

    def seed_clusters(self, seed_set: str) -> Ints:
        """Return the cluster of each eligible seed image."""
        return self.seeds[seed_set].cluster_id

    def matches(self, seed_set: str) -> Matches:
        """Return the pool neighbours of a seed set."""
        return self.matches_by_set[seed_set]


@dataclass(frozen=True)
class ArmClaims:
    """Claims of one arm, and the counts that its parameters ask for; arrays have shape (n,).

    `requested` is what the parameters ask for, `available` what there was to take from.
    """

    images: Ids
    requested: int
    available: int
    seed_images: Ids | None = None
    similarity: Floats | None = None
    rank: Ints | None = None
    cluster_id: Ints | None = None
    retrieved: int = -1
    unique: int = -1

    def __post_init__(self) -> None:
        if self.retrieved < 0:
            object.__setattr__(self, "retrieved", len(self.images))
            object.__setattr__(self, "unique", len(np.unique(self.images)))

    @property
    def dropped(self) -> int:
        """How many claims a cap took away."""
        return self.retrieved - len(self.images)

    def take(self, rows: npt.NDArray[np.int64]) -> ArmClaims:
        """Return some of the claims, with the counts of all."""

        def part(values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
            return None if values is None else values[rows]

        return replace(
            self,
            images=self.images[rows],
            seed_images=part(self.seed_images),
            similarity=part(self.similarity),
            rank=part(self.rank),
            cluster_id=part(self.cluster_id),
        )


def apply_cap(claimed: ArmClaims, cap: int | None, seed: int, arm: str) -> ArmClaims:
    """Return at most `cap` claims, a seeded sample that depends on identities alone."""
    if cap is None or len(claimed.images) <= cap:
        return claimed
    # Claims of one image by several seeds are told apart by the seed image, in a stable order.
    ties = claimed.seed_images if claimed.seed_images is not None else claimed.images
    by_seed = np.argsort(ties, kind="stable")
    order = by_seed[seeded_order(claimed.images[by_seed], seed, arm, "cap")]
    return claimed.take(np.sort(order[:cap]))
