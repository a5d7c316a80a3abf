"""verify: compares the pixels of near pairs. Its only threshold is the floor."""

from __future__ import annotations

import numpy as np

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.verify.measured_pairs import measure_pairs
from curation.stages.verify.pairs import Keys, distinct, ends_of, similar_pairs
from curation.stages.verify.params import VerifyStep
from curation.stages.verify.partitioned import verify_in_parts
from curation.stages.verify.reduced_tables import reduce_images
from curation.stages.verify.write_verified import fragment_rows, verified_batches

ROWS_ON_DRIVER = 5_000_000
"""Rows of `neighbours` up to which pairs are found on the driver, at about 500 bytes each."""


def verify(
    images: Table, neighbours: Table, *, params: VerifyStep, context: Context
) -> StageOutput:
    """Compare the images of each near pair above the floor, whatever their roles.

    Up to ROWS_ON_DRIVER rows of `neighbours`, the driver knows all pairs. Above that, workers find and
    compare them in parts, with the same result.

    Yields:
        (fragment, batch of `verified`), one row for each pair of images; or records of fragments that
        workers wrote.

    Returns:
        `pairs`, the number of pairs to compare, and `unreadable`, how many of them have an image that
        cannot be decoded.
    """
    if params.floor is None:
        yield "all", empty_batch(contract("verified").arrow_schema())
        return {"pairs": 0}
    if neighbours.rows > ROWS_ON_DRIVER:
        return (yield from verify_in_parts(images, neighbours, params, context))
    pairs = _pairs_to_compare(neighbours, params)
    reduced = reduce_images(images, np.unique(ends_of(pairs)), context)
    measured = measure_pairs(pairs, reduced, context)
    compared = sum(table.rows for table in measured)
    for rows in fragment_rows(compared):
        for batch in verified_batches(measured, rows):
            yield rows.name, batch
    return {"pairs": len(pairs), "unreadable": len(pairs) - compared}


def _pairs_to_compare(neighbours: Table, params: VerifyStep) -> Keys:
    """Return the distinct pairs to compare, both ids as one key with the smaller first, sorted."""
    parts = [np.empty(0, "S64")]
    for fragment in neighbours.fragments.values():
        parts += similar_pairs(fragment, params)
    return distinct(ends_of(np.concatenate(parts)))
