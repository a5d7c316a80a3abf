"""verify: compares the pixels of near pairs. Its only threshold is the floor."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.algorithms.arrays.ids import to_ids
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.verify.measured_pairs import Keys, ends_of, measure_pairs
from curation.stages.verify.params import VerifyStep
from curation.stages.verify.reduced_tables import reduce_images

VERIFIED_METHODS = ("near", "perceptual")
"""Methods whose pairs are compared. Pixels cannot confirm semantic similarity."""
NEIGHBOUR_COLUMNS = ["method", "role_a", "image_a", "role_b", "image_b", "similarity", "rank"]


def verify(
    images: Table, neighbours: Table, *, params: VerifyStep, context: Context
) -> StageOutput:
    """Compare the images of each near pair above the floor, whatever their roles.

    Yields:
        ("all", batch of `verified`), one row for each pair of images.

    Returns:
        `pairs`, the number of pairs to compare, and `unreadable`, how many of them have an image that
        cannot be decoded.
    """
    schema = contract("verified").arrow_schema()
    yield "all", empty_batch(schema)
    if params.floor is None:
        return {"pairs": 0}
    pairs = _pairs_to_compare(neighbours, params.floor, params.k)
    reduced = reduce_images(images, np.unique(ends_of(pairs)), context)
    compared = 0
    for measured in measure_pairs(pairs, reduced, context):
        for batch in measured.batches(schema.names, rows=65_536):
            compared += batch.num_rows
            yield "all", batch
    return {"pairs": len(pairs), "unreadable": len(pairs) - compared}


def _pairs_to_compare(neighbours: Table, floor: float, k: int) -> Keys:
    """Return the distinct pairs to compare, both ids as one key with the smaller first, sorted."""
    parts = [np.empty((0, 2), "S32")]
    for fragment in neighbours.fragments.values():
        for batch in fragment.batches(NEIGHBOUR_COLUMNS, rows=2**20):
            table = pa.Table.from_batches([batch])
            similar = pc.or_(
                pc.greater_equal(table.column("similarity"), floor),
                pc.equal(table.column("method"), "perceptual"),
            )
            verified = pc.is_in(table.column("method"), pa.array(VERIFIED_METHODS))
            # A held-out or seed image may have many copies, which need not be linked with each other.
            across_roles = pc.not_equal(table.column("role_a"), table.column("role_b"))
            nearest = pc.or_(across_roles, pc.less_equal(table.column("rank"), k))
            table = table.filter(pc.and_(pc.and_(similar, nearest), verified))
            ends = np.column_stack([to_ids(table.column(f"image_{end}")) for end in "ab"])
            parts.append(np.sort(ends[ends[:, 0] != ends[:, 1]], axis=1))
    return np.unique(np.ascontiguousarray(np.concatenate(parts)).view("S64").ravel())
