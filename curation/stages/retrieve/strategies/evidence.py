"""What strategies get and return: a few columns of image ids and numbers, no pixels and no vectors."""

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
    """Pool neighbours of the images of one seed set; every array has shape (n,).

    Attributes:
        seed_images: the id of the seed image.
        images: the id of the pool image.
        similarity: cosine similarity.
        rank: 1 for the nearest pool image of the seed image.
    """

    seed_images: Ids
    images: Ids
    similarity: Floats
    rank: Ints

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Matches:
        """Return some of the rows, by number or by mask."""
        return Matches(
            self.seed_images[rows], self.images[rows], self.similarity[rows], self.rank[rows]
        )

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class EligibleImages:
    """Different eligible images with their clusters; every array has shape (n,).

    Attributes:
        images: ids, ascending.
        cluster_id: the cluster of level 0, or -1 for an image without one.
        similarity: cosine similarity to the centroid of the cluster.
    """

    images: Ids
    cluster_id: Ints
    similarity: Floats


@dataclass(frozen=True)
class Evidence:
    """Everything that a strategy may use.

    Attributes:
        pool: the eligible pool images.
        seeds: the eligible seed images by seed set.
        seed_rows_by_set: number of rows of each seed set, eligible or not.
        matches_by_set: pool neighbours by seed set.
        parents: for each level but the coarsest, the cluster of the next level that each of its
            clusters belongs to.
    """

    pool: EligibleImages
    seeds: Mapping[str, EligibleImages]
    seed_rows_by_set: Mapping[str, int]
    matches_by_set: Mapping[str, Matches]
    parents: tuple[Ints, ...] = ()

    def at_level(self, level: int, clusters: Ints) -> Ints:
        """Return the clusters of a level that contain clusters of level 0 (-1 stays -1), (n,)."""
        return at_level(level, clusters, self.parents)

    def seed_images(self, seed_set: str) -> Ids:
        """Return the ids of the eligible images of a seed set, ascending."""
        return self.seeds[seed_set].images

    def seed_rows(self, seed_set: str) -> int:
        """Return the number of rows of a seed set, eligible or not."""
        return self.seed_rows_by_set[seed_set]

    def seed_clusters(self, seed_set: str) -> Ints:
        """Return the cluster of level 0 of each eligible seed image, or -1."""
        return self.seeds[seed_set].cluster_id

    def matches(self, seed_set: str) -> Matches:
        """Return the pool neighbours of a seed set."""
        return self.matches_by_set[seed_set]


@dataclass(frozen=True)
class ArmClaims:
    """Claims of one arm; every array has shape (n,) and is None where a strategy has no such value.

    Attributes:
        images: the id of the claimed image.
        requested: number of claims that the parameters of the arm request.
        available: number of claims that are possible.
        seed_images: the id of the seed image that led to the claim.
        similarity: cosine similarity to the seed image or to the centroid.
        rank: rank of the claim, from 1.
        cluster_id: the cluster that the image was taken from.
        retrieved: number of claims before a cap; by default that of `images`.
        unique: number of different images before a cap.
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
        """Number of claims that a cap dropped."""
        return self.retrieved - len(self.images)

    def take(self, rows: npt.NDArray[np.int64]) -> ArmClaims:
        """Return some of the claims; the counts stay those of all claims."""

        def take(values: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
            return None if values is None else values[rows]

        return replace(
            self,
            images=self.images[rows],
            seed_images=take(self.seed_images),
            similarity=take(self.similarity),
            rank=take(self.rank),
            cluster_id=take(self.cluster_id),
        )


def apply_cap(claims: ArmClaims, cap: int | None, seed: int, arm: str) -> ArmClaims:
    """Return at most `cap` claims: a seeded sample that depends on image ids alone.

    Args:
        claims: of the arm.
        cap: maximum number of claims; None for no limit.
        seed: of the recipe.
        arm: name of the arm, so that arms draw different samples.
    """
    if cap is None or len(claims.images) <= cap:
        return claims
    # Several claims on one image have the same key; the id of the seed image decides their order.
    tie_breaker = claims.seed_images if claims.seed_images is not None else claims.images
    by_seed = np.argsort(tie_breaker, kind="stable")
    order = by_seed[seeded_order(claims.images[by_seed], seed, arm, "cap")]
    return claims.take(np.sort(order[:cap]))
