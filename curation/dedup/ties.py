"""Ties between images: who copies whom, by which method, how strongly."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from curation.vectors import Ids

HASH_BITS = 256
METHODS = ("perceptual", "near")


@dataclass(frozen=True)
class Ties:
    """Undirected ties; arrays of shape (n,). `method` numbers METHODS."""

    left: Ids
    right: Ids
    strength: npt.NDArray[np.float32]
    method: npt.NDArray[np.int8]

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Ties:
        """Return some of the ties."""
        return Ties(self.left[rows], self.right[rows], self.strength[rows], self.method[rows])


def join_ties(parts: list[Ties]) -> Ties:
    """Return several sets of ties as one."""
    return Ties(
        np.concatenate([p.left for p in parts]).astype("S32"),
        np.concatenate([p.right for p in parts]).astype("S32"),
        np.concatenate([p.strength for p in parts]).astype(np.float32),
        np.concatenate([p.method for p in parts]).astype(np.int8),
    )


def no_ties() -> Ties:
    """Return the empty set of ties."""
    ids = np.empty(0, "S32")
    return Ties(ids, ids, np.empty(0, np.float32), np.empty(0, np.int8))


def perceptual_ties(
    left: tuple[Ids, npt.NDArray[np.uint8]], right: tuple[Ids, npt.NDArray[np.uint8]], within: int
) -> Ties:
    """Return the pairs whose hashes differ in at most `within` bits; an image is not tied to itself.

    Args:
        left: ids (n,) and hashes (n, 32).
        right: ids (m,) and hashes (m, 32); the same object as `left` for a self-join.
        within: Hamming distance, inclusive.
    """
    if not len(left[0]) or not len(right[0]):
        return no_ties()
    index = faiss.IndexBinaryFlat(HASH_BITS)
    index.add(np.ascontiguousarray(right[1]))
    # FAISS returns what is strictly nearer than the radius.
    limits, distance, rows = index.range_search(np.ascontiguousarray(left[1]), within + 1)
    found = limits[1:].astype(np.int64) - limits[:-1].astype(np.int64)
    query = np.repeat(np.arange(len(left[0])), found)
    a, b = left[0][query], right[0][rows]
    keep = a < b if left is right else a != b
    strength = (1 - distance[keep] / HASH_BITS).astype(np.float32)
    return Ties(a[keep], b[keep], strength, np.zeros(int(keep.sum()), np.int8))


def near_ties(left: Ids, right: Ids, similarity: npt.NDArray[np.float32], at_least: float) -> Ties:
    """Return neighbours as ties, those with cosine similarity `at_least`."""
    keep = (similarity >= np.float32(at_least)) & (left != right)
    return Ties(left[keep], right[keep], similarity[keep], np.ones(int(keep.sum()), np.int8))


def strongest(ties: Ties, images: Ids) -> npt.NDArray[np.int64]:
    """Return for each image (sorted ids) the number of its strongest tie from `left`, or −1.

    Equal strength goes to the smaller image on the other end, so that no order matters.
    """
    order = np.lexsort((ties.right, -ties.strength, ties.left))
    owners, first = np.unique(ties.left[order], return_index=True)
    found = np.full(len(images), -1, dtype=np.int64)
    place = np.searchsorted(images, owners)
    inside = (place < len(images)) & (images[np.minimum(place, len(images) - 1)] == owners)
    found[place[inside]] = order[first[inside]]
    return found


def both_ways(ties: Ties) -> Ties:
    """Return each tie once from either end."""
    back = Ties(ties.right, ties.left, ties.strength, ties.method)
    return join_ties([ties, back])
