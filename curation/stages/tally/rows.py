"""The rows of `tallies`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.contract import contract
from curation.store.fragment import Fragment

COPIES_COLUMNS = ["pair_id", "method", "contaminated_by", "copy_of_seed"]


def tally_batch(
    images: Fragment, copies: Fragment, caption_repeats: npt.NDArray[np.int32]
) -> pa.RecordBatch:
    """Return the rows of a fragment of `tallies`.

    Args:
        images: the fragment of `images`.
        copies: that of `copies`.
        caption_repeats: images with the caption of each row, 0 for a row that does not count, (n,).
    """
    pair_id = images.read(["pair_id"]).column("pair_id").combine_chunks()
    table = copies.read(COPIES_COLUMNS)
    aligned = table.take(pc.index_in(pair_id, table.column("pair_id")))
    return pa.RecordBatch.from_arrays(
        [
            pair_id,
            pa.array(caption_repeats, mask=caption_repeats == 0),
            aligned.column("method").combine_chunks(),
            pc.is_valid(aligned.column("contaminated_by")).combine_chunks(),
            pc.is_valid(aligned.column("copy_of_seed")).combine_chunks(),
        ],
        schema=contract("tallies").arrow_schema(),
    )
