"""Which pairs are compared, and their keys."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.stages.verify.params import VerifyStep
from curation.store.fragment import Fragment

VERIFIED_METHODS = ("near", "perceptual")
"""Methods whose pairs are compared. Pixels cannot confirm semantic similarity."""
NEIGHBOUR_COLUMNS = ["method", "role_a", "image_a", "role_b", "image_b", "similarity", "rank"]
READ_AT_ONCE = 2**20
Keys = npt.NDArray[np.bytes_]
"""Two ids, or two ids and two digests, as one byte string for each pair, dtype S64 or S128."""


def joined(*columns: Ids) -> Keys:
    """Return the ids of each row as one byte string, shape (n,)."""
    rows = np.ascontiguousarray(np.column_stack(columns))
    return rows.view(f"S{rows.dtype.itemsize * len(columns)}").reshape(len(rows))


def ends_of(pairs: Keys) -> Ids:
    """Return the two images of each pair, shape (n, 2)."""
    return pairs.view("S32").reshape(-1, 2)


def text_of(key: bytes) -> str:
    """Return a key as text."""
    return key.decode("latin-1")


def similar_pairs(neighbours: Fragment, params: VerifyStep) -> Iterator[Keys]:
    """Yield the distinct pairs of each batch that are compared, the smaller id first, sorted."""
    assert params.floor is not None
    # Similarities are float32, so the floor is rounded like them, as the thresholds of dedup are.
    floor = float(np.float32(params.floor))
    for batch in neighbours.batches(NEIGHBOUR_COLUMNS, rows=READ_AT_ONCE):
        table = pa.Table.from_batches([batch])
        similar = pc.or_(
            pc.greater_equal(table.column("similarity"), floor),
            pc.equal(table.column("method"), "perceptual"),
        )
        verified = pc.is_in(table.column("method"), pa.array(VERIFIED_METHODS))
        # A held-out or seed image may have many copies, which need not be linked with each other.
        across_roles = pc.not_equal(table.column("role_a"), table.column("role_b"))
        nearest = pc.or_(across_roles, pc.less_equal(table.column("rank"), params.k))
        table = table.filter(pc.and_(pc.and_(similar, nearest), verified))
        ends = np.column_stack([to_ids(table.column(f"image_{end}")) for end in "ab"])
        yield distinct(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1))


def distinct(ends: Ids) -> Keys:
    """Return distinct pairs of images, sorted.

    Args:
        ends: both images of each pair, the smaller id first, shape (n, 2).
    """
    return np.unique(np.ascontiguousarray(ends, "S32").view("S64").reshape(len(ends)))
