"""What strategies get and return: a few columns of image ids and numbers, no pixels and no vectors.

A strategy decides in two steps. `plan` gets counts of the whole and returns a few numbers. `claim` gets
these, and the evidence of some images: each image with all that is known of it. Where claims compete,
such as for the places in a cluster, `claim` only states the order and the number of places (`Limits`).
So images are decided in any number of parts, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.kmeans.balance import sum_by_parent
from curation.algorithms.kmeans.levels import at_level
from curation.errors import RecipeError

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


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

    def take(self, rows: Numbers | npt.NDArray[np.bool_]) -> Matches:
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


def _unstated(name: str) -> RecipeError:
    return RecipeError(
        f"The strategy of an arm uses {name}, which it does not state",
        fix=f"Add {name!r} to `uses` of its StrategyArm",
    )


@dataclass(frozen=True)
class ArmCounts:
    """Counts over all eligible images, from which an arm is planned.

    Attributes:
        pool_images: number of different eligible images of the pool.
        seed_rows: number of rows of the seed set, eligible or not; 0 without a seed set.
        seed_images: number of different eligible images among them.
        parents: for each level but the coarsest, the cluster of the next level that each of its
            clusters belongs to.
        pool_by_cluster: number of pool images in each cluster of level 0, (k,), if the arm uses
            `clusters`.
        seeds_by_cluster: the same of images of the seed set.
    """

    pool_images: int
    seed_rows: int = 0
    seed_images: int = 0
    parents: tuple[Ints, ...] = ()
    pool_by_cluster: Numbers | None = None
    seeds_by_cluster: Numbers | None = None

    def pool_in_clusters(self, level: int = 0) -> Numbers:
        """Return the number of pool images in each cluster of a level, (k,)."""
        return self._at_level(level, self.pool_by_cluster)

    def seeds_in_clusters(self, level: int = 0) -> Numbers:
        """Return the number of images of the seed set in each cluster of a level, (k,)."""
        return self._at_level(level, self.seeds_by_cluster)

    def _at_level(self, level: int, counts: Numbers | None) -> Numbers:
        if counts is None:
            raise _unstated("clusters")
        at_level(level, np.empty(0, np.int32), self.parents)  # Raises an error if there is none.
        for number, parent in enumerate(self.parents[:level], start=1):
            counts = sum_by_parent(counts, parent, self.clusters_at(number))
        return counts

    def clusters_at(self, level: int) -> int:
        """Return the number of clusters of a level above the finest."""
        if level < len(self.parents):
            return len(self.parents[level])
        return int(self.parents[level - 1].max(initial=-1)) + 1


@dataclass(frozen=True)
class ArmPlan:
    """What follows from counts alone.

    Attributes:
        requested: number of claims that the parameters of the arm request.
        values: arrays that `claim` needs, at most a few numbers for each cluster.
    """

    requested: int
    values: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """All that is known of some images.

    Attributes:
        parents: as `ArmCounts.parents`.
        pool_images: the eligible images of the pool among them; None if the arm does not use `pool`.
        seed_images: those of the seed set; None if the arm does not use `seeds`.
        all_matches: matches with them; None if the arm does not use `matches`.
        matches_once: those of them that remain if the arm matches each image once; None if it does not.
    """

    parents: tuple[Ints, ...] = ()
    pool_images: EligibleImages | None = None
    seed_images: EligibleImages | None = None
    all_matches: Matches | None = None
    matches_once: Matches | None = None

    @property
    def pool(self) -> EligibleImages:
        """The eligible images of the pool."""
        if self.pool_images is None:
            raise _unstated("pool")
        return self.pool_images

    @property
    def seeds(self) -> EligibleImages:
        """The eligible images of the seed set of the arm."""
        if self.seed_images is None:
            raise _unstated("seeds")
        return self.seed_images

    @property
    def matches(self) -> Matches:
        """Matches of the seed set of the arm with these images."""
        if self.all_matches is None:
            raise _unstated("matches")
        return self.all_matches

    @property
    def single_matches(self) -> Matches:
        """The matches that remain if each image goes to one seed image.

        Each goes to the most similar seed image that has fewer than the arm allows, as if matches were
        taken by descending similarity, then seed image, then image.
        """
        if self.matches_once is None:
            raise RecipeError(
                "The strategy of an arm uses single_matches, which it does not state",
                fix="Let `matches_each_image_once` of its StrategyArm return a number",
            )
        return self.matches_once

    def at_level(self, level: int, clusters: Ints) -> Ints:
        """Return the clusters of a level that contain clusters of level 0 (-1 stays -1), (n,)."""
        return at_level(level, clusters, self.parents)


@dataclass(frozen=True)
class Limits:
    """Places for which claims compete; every array has shape (n,).

    In each group the first claims take the places, in the order of `order`, image id and seed image id.

    Attributes:
        group: number of the group, from 0.
        order: see above; `curation.algorithms.arrays.seeded_order.seeded_keys` gives a random one,
            `curation.engine.sorted_arrays.ascending_keys` that of numbers.
        at_most: number of places in the group of the claim; negative where it does not compete.
    """

    group: npt.NDArray[np.integer[Any]]
    order: Keys
    at_most: npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ArmClaims:
    """Claims of one arm on some images; every array has shape (n,).

    An array is None where a strategy has no such value.

    Attributes:
        images: the id of the claimed image.
        available: number of claims that are possible on these images.
        seed_images: the id of the seed image that led to the claim.
        similarity: cosine similarity to the seed image or to the centroid.
        rank: rank of the claim, from 1.
        cluster_id: the cluster that the image was taken from.
        limits: the places for which the claims compete; None if all of them count.
    """

    images: Ids
    available: int
    seed_images: Ids | None = None
    similarity: Floats | None = None
    rank: Ints | None = None
    cluster_id: Ints | None = None
    limits: Limits | None = None
