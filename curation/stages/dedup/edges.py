"""Edges between images: which images are copies of each other, by which method, how similar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Bools, Ids
from curation.engine.sorted_arrays import positions_in, positions_of_ranges, run_starts
from curation.stages.dedup.agreement import MEASURED, agrees
from curation.stages.dedup.fetched_rows import DistinctImages, FetchedRows, ImageNumbers
from curation.stages.dedup.params import Verify
from curation.store.fragment import Fragment

METHODS = ("pixels", "perceptual", "near", "semantic")
"""Methods that find edges, the most certain first. An image's best edge is the one of the most certain
method, and of several the most similar."""
PIXELS, PERCEPTUAL, NEAR, SEMANTIC = range(len(METHODS))
NEIGHBOURS_PER_BATCH = 2**20
NEIGHBOUR_COLUMNS = ["method", "role_a", "image_a", "role_b", "image_b", "similarity"]
EdgeNumbers = npt.NDArray[np.int64]
PairKeys = npt.NDArray[np.bytes_]
"""Unordered pairs of images as S64: the smaller image id, then the larger one."""


@dataclass(frozen=True)
class Edges:
    """Edges between numbered images.

    Attributes:
        left: number of the image at one end, shape (n,).
        right: number of the image at the other end, shape (n,).
        similarity: 1 for equal pixels, 1 − distance / 256 for hashes, cosine for vectors, shape (n,).
        method: number of the method in METHODS, shape (n,).
    """

    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]
    method: npt.NDArray[np.int8]

    def take(self, selection: Bools | EdgeNumbers) -> Edges:
        """Return some of the edges, by a mask or by their numbers."""
        return Edges(
            self.left[selection],
            self.right[selection],
            self.similarity[selection],
            self.method[selection],
        )

    def __len__(self) -> int:
        return len(self.left)


def concat_edges(parts: list[Edges]) -> Edges:
    """Return the edges of all parts."""
    parts = [no_edges(), *parts]
    return Edges(
        np.concatenate([part.left for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.similarity for part in parts]),
        np.concatenate([part.method for part in parts]),
    )


def no_edges() -> Edges:
    """Return an empty set of edges."""
    nothing = np.empty(0, np.int32)
    return Edges(nothing, nothing, np.empty(0, np.float32), np.empty(0, np.int8))


def both_directions(edges: Edges) -> Edges:
    """Return each edge twice, the second time with its ends swapped."""
    return concat_edges([edges, Edges(edges.right, edges.left, edges.similarity, edges.method)])


@dataclass(frozen=True)
class VerifiedNeighbours:
    """Neighbours, and which pairs of them agree in their pixels.

    Attributes:
        neighbours: fragments of `neighbours`, or a table with NEIGHBOUR_COLUMNS.
        agreeing: pairs whose pixels agree, sorted; None if pixels were not compared.
    """

    neighbours: Sequence[Fragment] | pa.Table
    agreeing: PairKeys | None = None

    def agree(self, left: Ids, right: Ids) -> Bools:
        """Return which pairs of images agree, shape (n,). All do if pixels were not compared."""
        if self.agreeing is None:
            return np.ones(len(left), dtype=bool)
        pairs = np.sort(np.column_stack([left, right]), axis=1).view("S64").ravel()
        return positions_in(pairs, self.agreeing)[1]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield NEIGHBOUR_COLUMNS in batches."""
        if isinstance(self.neighbours, pa.Table):
            table = self.neighbours.select(NEIGHBOUR_COLUMNS)
            yield from table.to_batches(max_chunksize=NEIGHBOURS_PER_BATCH)
            return
        for fragment in self.neighbours:
            yield from fragment.batches(NEIGHBOUR_COLUMNS, rows=NEIGHBOURS_PER_BATCH)


def agreeing_pairs(verified: Iterable[Fragment], bounds: Verify) -> PairKeys:
    """Return the pairs whose pixels agree within the bounds, sorted.

    Args:
        verified: fragments of `verified`.
        bounds: of the recipe.
    """
    parts = [np.empty(0, "S64")]
    for fragment in verified:
        table = fragment.read()
        agree = agrees({name: table.column(name).to_numpy() for name in MEASURED}, bounds)
        parts.append(pair_keys(table.filter(pa.array(agree))))
    return np.sort(np.concatenate(parts))


def pair_keys(table: pa.Table) -> PairKeys:
    """Return the columns `image_a`, the smaller id, and `image_b` of a table as pairs."""
    if not len(table):
        return np.empty(0, "S64")
    ends = [to_ids(table.column(f"image_{end}")) for end in "ab"]
    return np.column_stack(ends).view("S64").ravel()


def neighbour_edges(
    verified: VerifiedNeighbours,
    left: tuple[str, DistinctImages],
    right: tuple[str, DistinctImages],
    thresholds: Mapping[str, float],
) -> Edges:
    """Return the neighbours of two roles that are similar enough and agree, as edges.

    Args:
        verified: neighbours, and which of them agree.
        left: role of the query, and its images.
        right: role of the neighbour, and its images.
        thresholds: smallest similarity of an edge, by method. Methods without one make no edges.
    """
    (left_role, left_images), (right_role, right_images) = left, right
    parts = []
    for table in _similar_neighbours(verified, left_role, right_role, thresholds):
        left_ids, right_ids = (to_ids(table.column(f"image_{end}")) for end in "ab")
        names = table.column("method").to_numpy(zero_copy_only=False).astype(str)
        left_numbers, right_numbers = (
            left_images.numbers_of(left_ids),
            right_images.numbers_of(right_ids),
        )
        # A held-out image that is in the pool too is an exact copy, for which no edge is needed.
        keep = (left_numbers >= 0) & (right_numbers >= 0) & (left_ids != right_ids)
        keep &= (names == "semantic") | verified.agree(left_ids, right_ids)
        method = np.select([names == name for name in METHODS], range(len(METHODS)))
        edges = Edges(
            left_numbers.astype(np.int32),
            right_numbers.astype(np.int32),
            table.column("similarity").to_numpy().astype(np.float32),
            method.astype(np.int8),
        )
        parts.append(edges.take(keep))
    return concat_edges(parts)


def _similar_neighbours(
    verified: VerifiedNeighbours, left_role: str, right_role: str, thresholds: Mapping[str, float]
) -> Iterator[pa.Table]:
    """Yield the neighbours of two roles that are similar enough for their method."""
    for batch in verified.batches():
        table = pa.Table.from_batches([batch])
        roles = pc.and_(
            pc.equal(table.column("role_a"), left_role),
            pc.equal(table.column("role_b"), right_role),
        )
        yield from filter_similar(table.filter(roles), thresholds)


def filter_similar(table: pa.Table, thresholds: Mapping[str, float]) -> Iterator[pa.Table]:
    """Yield, for each method, the neighbours that are similar enough for it.

    Args:
        table: rows of `neighbours`.
        thresholds: smallest similarity by method.
    """
    for method, threshold in thresholds.items():
        # Similarities are float32, so the threshold is rounded like them.
        similar = pc.greater_equal(table.column("similarity"), float(np.float32(threshold)))
        yield table.filter(pc.and_(similar, pc.equal(table.column("method"), method)))


def pixel_edges(fetched: FetchedRows, left: DistinctImages, right: DistinctImages) -> Edges:
    """Return edges between images whose stored pixels are equal.

    Within one set of images, an edge leads from the first image with certain pixels to each other one.
    Between two sets, edges connect all images with equal pixels.
    """
    left_pixels = fetched.pixel_ids[left.best_row]
    right_pixels = fetched.pixel_ids[right.best_row]
    order = np.argsort(right_pixels, kind="stable")
    ordered = right_pixels[order]
    if left is right:
        repeats = np.flatnonzero(~run_starts(ordered) & (ordered != b""))
        first = np.searchsorted(ordered, ordered[repeats])
        return _equal_pixels(order[first], order[repeats])
    low, high = (np.searchsorted(ordered, left_pixels, side) for side in ("left", "right"))
    count = np.where(left_pixels == b"", 0, high - low)
    left_numbers, positions = positions_of_ranges(low, count)
    edges = _equal_pixels(left_numbers, order[positions])
    return edges.take(left.ids[edges.left] != right.ids[edges.right])


def _equal_pixels(left: ImageNumbers, right: ImageNumbers) -> Edges:
    count = len(left)
    return Edges(
        left.astype(np.int32),
        right.astype(np.int32),
        np.ones(count, np.float32),
        np.zeros(count, np.int8),
    )


def best_edges(edges: Edges, images: int, ids: Ids) -> EdgeNumbers:
    """Return the number of the best edge of each image on the left, or −1, shape (images,).

    The most certain method is best, then the largest similarity, then the smaller id at the other end.
    The result does not depend on the order of edges.

    Args:
        edges: edges between the images.
        images: number of images.
        ids: id of each image, shape (images,).
    """
    order = np.lexsort((ids[edges.right], -edges.similarity, edges.method, edges.left))
    with_edges, first = np.unique(edges.left[order], return_index=True)
    best = np.full(images, -1, dtype=np.int64)
    best[with_edges] = order[first]
    return best
