"""Ties between images: who copies whom, by which method, how strongly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.engine.fragment import Fragment
from curation.stages.dedup.agreement import MEASURED, agrees
from curation.stages.dedup.params import Verify
from curation.stages.dedup.rows import Fetched, Images, Ints

METHODS = ("pixels", "perceptual", "near", "semantic")
"""The surest first: of an image's ties the first of these counts, then the strongest."""
BATCH = 2**20
"""Neighbours that are looked at at once."""
NARROW = ["method", "role_a", "image_a", "role_b", "image_b", "similarity"]
Floats = npt.NDArray[np.float32]
Methods = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Ties:
    """Ties between numbered images; arrays of shape (n,). `method` numbers METHODS."""

    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    strength: Floats
    method: Methods

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> Ties:
        """Return some of the ties."""
        return Ties(self.left[rows], self.right[rows], self.strength[rows], self.method[rows])

    def __len__(self) -> int:
        return len(self.left)


def join_ties(parts: list[Ties]) -> Ties:
    """Return several sets of ties as one."""
    parts = [no_ties(), *parts]
    return Ties(
        np.concatenate([p.left for p in parts]),
        np.concatenate([p.right for p in parts]),
        np.concatenate([p.strength for p in parts]),
        np.concatenate([p.method for p in parts]),
    )


def no_ties() -> Ties:
    """Return the empty set of ties."""
    none = np.empty(0, np.int32)
    return Ties(none, none, np.empty(0, np.float32), np.empty(0, np.int8))


def both_ways(ties: Ties) -> Ties:
    """Return each tie once from either end."""
    return join_ties([ties, Ties(ties.right, ties.left, ties.strength, ties.method)])


@dataclass(frozen=True)
class Near:
    """Neighbours, in fragments or as a table with NARROW, and the pairs of images whose pixels agree:
    sorted S64, the two ids one after the other, the smaller first; None where nobody looked."""

    neighbours: Sequence[Fragment] | pa.Table
    agreeing: npt.NDArray[np.bytes_] | None = None

    def agree(self, left: Ids, right: Ids) -> npt.NDArray[np.bool_]:
        """Return which pairs agree, (n,)."""
        if self.agreeing is None:
            return np.ones(len(left), dtype=bool)
        if not len(self.agreeing):
            return np.zeros(len(left), dtype=bool)
        pairs = np.sort(np.column_stack([left, right]), axis=1).view("S64").ravel()
        place = np.minimum(np.searchsorted(self.agreeing, pairs), len(self.agreeing) - 1)
        return np.asarray(self.agreeing[place] == pairs, dtype=bool)


def agreeing_pairs(verified: Iterable[Fragment], bounds: Verify) -> npt.NDArray[np.bytes_]:
    """Return the pairs whose pixels agree within the bounds, as `Near` has them."""
    found = [np.empty(0, "S64")]
    for fragment in verified:
        table = fragment.read()
        own = agrees({name: table.column(name).to_numpy() for name in MEASURED}, bounds)
        found.append(pairs_of(table.filter(pa.array(own))))
    return np.sort(np.concatenate(found))


def pairs_of(table: pa.Table) -> npt.NDArray[np.bytes_]:
    """Return the pairs of the columns image_a and image_b as S64."""
    if not len(table):
        return np.empty(0, "S64")
    ends = [to_ids(table.column(f"image_{end}")) for end in "ab"]
    return np.column_stack(ends).view("S64").ravel()


def neighbour_ties(
    near: Near,
    left: tuple[str, Images],
    right: tuple[str, Images],
    least: Mapping[str, float],
) -> Ties:
    """Return the neighbours of two roles as ties, those of at least a similarity by method.

    Args:
        near: the table of neighbours, and whose pixels agree.
        left: role and images that ties start from.
        right: role and images that they lead to.
        least: by method; a method that is not there makes no ties.
    """
    (role_a, a), (role_b, b) = left, right
    parts = []
    for table in _strong(near, role_a, role_b, least):
        ids = to_ids(table.column("image_a")), to_ids(table.column("image_b"))
        names = table.column("method").to_numpy(zero_copy_only=False).astype(str)
        places = a.places(ids[0]), b.places(ids[1])
        # A held-out picture in the pool is its copy by its bytes, which needs no tie.
        known = (places[0] >= 0) & (places[1] >= 0) & (ids[0] != ids[1])
        known &= (names == "semantic") | near.agree(*ids)
        method = np.select([names == name for name in METHODS], range(len(METHODS)))
        ties = Ties(
            places[0].astype(np.int32),
            places[1].astype(np.int32),
            table.column("similarity").to_numpy().astype(np.float32),
            method.astype(np.int8),
        )
        parts.append(ties.take(known))
    return join_ties(parts)


def _strong(near: Near, role_a: str, role_b: str, least: Mapping[str, float]) -> Iterator[pa.Table]:
    """Yield the neighbours of two roles that are near enough for their method."""
    for batch in _batches(near.neighbours):
        table = pa.Table.from_batches([batch])
        roles = pc.and_(
            pc.equal(table.column("role_a"), role_a), pc.equal(table.column("role_b"), role_b)
        )
        yield from near_enough(table.filter(roles), least)


def _batches(neighbours: Sequence[Fragment] | pa.Table) -> Iterator[pa.RecordBatch]:
    if isinstance(neighbours, pa.Table):
        yield from neighbours.select(NARROW).to_batches(max_chunksize=BATCH)
        return
    for fragment in neighbours:
        yield from fragment.batches(NARROW, rows=BATCH)


def near_enough(table: pa.Table, least: Mapping[str, float]) -> Iterator[pa.Table]:
    """Yield by method the neighbours that are near enough for it."""
    for method, bound in least.items():
        # The bound as float32 has it, which similarities are.
        near = pc.greater_equal(table.column("similarity"), float(np.float32(bound)))
        yield table.filter(pc.and_(near, pc.equal(table.column("method"), method)))


def pixel_ties(fetched: Fetched, left: Images, right: Images) -> Ties:
    """Return ties of images whose stored pictures are the same to the last bit.

    Within one set of images each is tied to the first of them; between two sets to all.
    """
    a, b = fetched.stored[left.best], fetched.stored[right.best]
    order = np.argsort(b, kind="stable")
    if left is right:
        same = np.flatnonzero((a[order][1:] == a[order][:-1]) & (a[order][1:] != b""))
        first = np.searchsorted(a[order], a[order][same + 1])
        return _sure(order[first], order[same + 1])
    low, high = (np.searchsorted(b[order], a, side) for side in ("left", "right"))
    count = np.where(a == b"", 0, high - low)
    query = np.repeat(np.arange(len(a)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    ties = _sure(query, order[np.repeat(low, count) + within])
    return ties.take(left.ids[ties.left] != right.ids[ties.right])


def _sure(left: Ints, right: Ints) -> Ties:
    size = len(left)
    return Ties(
        left.astype(np.int32),
        right.astype(np.int32),
        np.ones(size, np.float32),
        np.zeros(size, np.int8),
    )


def strongest(ties: Ties, images: int, ids: Ids) -> Ints:
    """Return for each of `images` the number of its best tie from `left`, or −1.

    The surest method counts first, then the strength, then the smaller id at the other end, so that no
    order matters.
    """
    order = np.lexsort((ids[ties.right], -ties.strength, ties.method, ties.left))
    owners, first = np.unique(ties.left[order], return_index=True)
    found = np.full(images, -1, dtype=np.int64)
    found[owners] = order[first]
    return found
