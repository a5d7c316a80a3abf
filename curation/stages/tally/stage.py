"""tally: corpus-level counts of each row, aligned with the rows of `images`.

They need all rows at once: how many images share a row's caption, and whether the row is a copy.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.tally.captions import caption_keys, count_repeats
from curation.stages.tally.params import TallyStep
from curation.store.fragment import Fragment

COPIES_COLUMNS = ["pair_id", "method", "contaminated_by", "copy_of_seed"]


def tally(images: Table, copies: Table, *, params: TallyStep, context: Context) -> StageOutput:
    """Count how many different images of the pool have each row's caption. Copies count as one image.

    Workers read captions, each fragment once. The driver gets keys of 24 bytes per row.

    Yields:
        (fragment, batch of `tallies`), aligned with `images`.

    Returns:
        `captions`, the number of different captions in the pool, and `most_repeated`, the images of the
        most repeated one.
    """
    names = list(images.fragments)
    records = context.compute(
        "captions",
        caption_keys,
        {n: {"images": images.fragments[n], "copies": copies.fragments[n]} for n in names},
    )
    repeats = count_repeats([Fragment(context.store, records[name]) for name in names])
    start = 0
    for name in names:
        stop = start + images.fragments[name].rows
        counts = repeats.counts[start:stop]
        column = pa.array(counts, mask=counts == 0)
        yield name, _batch(images.fragments[name], copies.fragments[name], column)
        start = stop
    return {"captions": repeats.captions, "most_repeated": repeats.most_repeated}


def _batch(images: Fragment, copies: Fragment, caption_repeats: pa.Array) -> pa.RecordBatch:
    pair_id = images.read(["pair_id"]).column("pair_id").combine_chunks()
    table = copies.read(COPIES_COLUMNS)
    aligned = table.take(pc.index_in(pair_id, table.column("pair_id")))
    return pa.RecordBatch.from_arrays(
        [
            pair_id,
            caption_repeats,
            aligned.column("method").combine_chunks(),
            pc.is_valid(aligned.column("contaminated_by")).combine_chunks(),
            pc.is_valid(aligned.column("copy_of_seed")).combine_chunks(),
        ],
        schema=contract("tallies").arrow_schema(),
    )
