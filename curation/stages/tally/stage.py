"""tally: what only all rows together tell of one, aligned with the rows: repeated captions, copies."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.tally.captions import caption_keys, repeats
from curation.stages.tally.params import TallyStep

COPIES = ["pair_id", "method", "contaminated_by", "copy_of_seed"]


def tally(images: Table, copies: Table, *, params: TallyStep, context: Context) -> StageOutput:
    """Count under how many pictures of the pool each caption stands, copies counted once.

    Captions are read on workers, once a fragment; keys of 24 bytes a row come to the driver.

    Yields:
        (fragment, batch of `tallies`), aligned with `images`.

    Returns:
        How many different captions the pool has, and the pictures of the most repeated one.
    """
    names = list(images.fragments)
    records = context.compute(
        "captions",
        caption_keys,
        {n: {"images": images.fragments[n], "copies": copies.fragments[n]} for n in names},
    )
    found = repeats([Fragment(context.store, records[name]) for name in names])
    start = 0
    for name in names:
        stop = start + images.fragments[name].rows
        counts = pa.array(found.counts[start:stop], mask=found.counts[start:stop] == 0)
        yield name, _batch(images.fragments[name], copies.fragments[name], counts)
        start = stop
    return {"captions": found.captions, "most_repeated": found.most}


def _batch(images: Fragment, copies: Fragment, counts: pa.Array) -> pa.RecordBatch:
    pair_id = images.read(["pair_id"]).column("pair_id").combine_chunks()
    told = copies.read(COPIES)
    own = told.take(pc.index_in(pair_id, told.column("pair_id")))
    return pa.RecordBatch.from_arrays(
        [
            pair_id,
            counts,
            own.column("method").combine_chunks(),
            pc.is_valid(own.column("contaminated_by")).combine_chunks(),
            pc.is_valid(own.column("copy_of_seed")).combine_chunks(),
        ],
        schema=contract("tallies").arrow_schema(),
    )
