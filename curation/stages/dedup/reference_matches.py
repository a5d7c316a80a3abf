"""Which images copy a reference image: a held-out one (contamination) or a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools
from curation.stages.dedup.edges import NEAR, SEMANTIC, Edges
from curation.stages.dedup.fetched_rows import DistinctImages, ImageNumbers

EQUAL_BYTES = -1
"""In place of the number of a method. It is the smallest, because equal bytes are the most certain."""


@dataclass(frozen=True)
class ReferenceMatches:
    """The best reference image of each image.

    Attributes:
        reference: number of the reference image that the image copies, −1 for none, shape (n,).
        set: number of the set that the reference image is in, −1 for none, shape (n,).
        method: EQUAL_BYTES or the number of a method in METHODS, shape (n,).
        similarity: shape (n,).
        via: number of the image of the same component or class that copies the reference image, or of
            the image itself, shape (n,).
    """

    reference: ImageNumbers
    set: npt.NDArray[np.int32]
    method: npt.NDArray[np.int8]
    similarity: npt.NDArray[np.float32]
    via: ImageNumbers

    @classmethod
    def none(cls, images: int) -> ReferenceMatches:
        """Return that no image has a match."""
        return cls(
            np.full(images, -1),
            np.full(images, -1, np.int32),
            np.full(images, EQUAL_BYTES, np.int8),
            np.zeros(images, np.float32),
            np.arange(images),
        )


def best_matches(
    edges: Edges, references: DistinctImages, images: DistinctImages, set_number: int = 0
) -> ReferenceMatches:
    """Return the best reference image of each image. Equal bytes are better than any edge.

    Args:
        edges: edges from reference images to images.
        references: held-out images, or seed images.
        images: images that may be copies.
        set_number: number of the set that the reference images are in.
    """
    matches = ReferenceMatches.none(len(images.ids))
    order = np.lexsort((references.ids[edges.left], -edges.similarity, edges.method, edges.right))
    matched, first = np.unique(edges.right[order], return_index=True)
    _set_matches(matches, matched, edges.take(order[first]))
    numbers = images.numbers_of(references.ids)
    same_bytes = np.flatnonzero(numbers >= 0)
    exact = Edges(
        same_bytes.astype(np.int32),
        numbers[same_bytes].astype(np.int32),
        np.ones(len(same_bytes), np.float32),
        np.full(len(same_bytes), EQUAL_BYTES, np.int8),
    )
    _set_matches(matches, numbers[same_bytes], exact)
    matches.set[matches.reference >= 0] = set_number
    return matches


def _set_matches(matches: ReferenceMatches, images: npt.NDArray[Any], edges: Edges) -> None:
    matches.reference[images], matches.method[images] = edges.left, edges.method
    matches.similarity[images] = edges.similarity


def copy_edges(edges: Edges, at_least: float) -> Edges:
    """Return the edges that make an image a copy of a reference image.

    Semantic similarity does not make a copy.

    Args:
        edges: edges of all methods.
        at_least: smallest cosine similarity of the method `near`.
    """
    similar = (edges.method != NEAR) | (edges.similarity >= np.float32(at_least))
    return edges.take(similar & (edges.method != SEMANTIC))


def matches_by_set(
    edges: Edges,
    sets: Mapping[str, tuple[Bools, float]],
    held_out: DistinctImages,
    images: DistinctImages,
) -> list[ReferenceMatches]:
    """Return the best matches with each held-out set.

    Args:
        edges: edges from held-out images to images.
        sets: for each set, which of the held-out images it has, and its threshold.
        held_out: images of all held-out sets.
        images: images that may be copies.
    """
    matches = []
    for number, (in_set, at_least) in enumerate(sets.values()):
        set_edges = copy_edges(edges.take(in_set[edges.left]), at_least)
        # Images of other sets get a blank id, which no image has.
        set_images = DistinctImages(np.where(in_set, held_out.ids, b""), held_out.best_row)
        matches.append(best_matches(set_edges, set_images, images, number))
    return matches


def best_over_sets(parts: list[ReferenceMatches]) -> ReferenceMatches:
    """Return the best match of each image over all sets. Of equal ones, the earlier set wins."""
    best = parts[0]
    for part in parts[1:]:
        more_certain = part.method < best.method
        more_similar = (part.method == best.method) & (part.similarity > best.similarity)
        better = (part.reference >= 0) & ((best.reference < 0) | more_certain | more_similar)
        best = ReferenceMatches(
            np.where(better, part.reference, best.reference),
            np.where(better, part.set, best.set),
            np.where(better, part.method, best.method),
            np.where(better, part.similarity, best.similarity),
            np.where(better, part.via, best.via),
        )
    return best


def spread(matches: ReferenceMatches, group: ImageNumbers) -> ReferenceMatches:
    """Return matches in which images without a match have the best one of their group.

    Args:
        matches: of each image.
        group: label of the component, or of the class of equal images, of each image, shape (n,).
    """
    matched = np.flatnonzero(matches.reference >= 0)
    order = matched[
        np.lexsort(
            (
                matched,
                matches.reference[matched],
                -matches.similarity[matched],
                matches.method[matched],
            )
        )
    ]
    labels, first = np.unique(group[order], return_index=True)
    best_of_label = np.full(len(group), -1)
    best_of_label[labels] = order[first]
    via = best_of_label[group]
    inherits = (matches.reference < 0) & (via >= 0)

    def inherited(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(inherits, values[via], values)

    return ReferenceMatches(
        inherited(matches.reference),
        inherited(matches.set),
        inherited(matches.method),
        inherited(matches.similarity),
        np.where(inherits, via, matches.via),
    )
