"""tally: corpus-level counts of each row, aligned with the rows of `images`.

They need all rows at once: how many images share a row's caption, and whether the row is a copy.
"""

from __future__ import annotations

from curation.engine.context import Context
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.tally.captions import caption_keys, count_repeats
from curation.stages.tally.params import TallyStep
from curation.stages.tally.parts import tally_in_parts
from curation.stages.tally.rows import tally_batch


def tally(images: Table, copies: Table, *, params: TallyStep, context: Context) -> StageOutput:
    """Count how many different images of the pool have each row's caption. Copies count as one image.

    Workers read captions, each fragment once. Up to `params.rows_at_once` rows the driver counts them,
    by keys of 24 bytes; above that, workers do, with the same result.

    Yields:
        (fragment, batch of `tallies`), aligned with `images`, or records of fragments that workers
        wrote.

    Returns:
        `captions`, the number of different captions in the pool, and `most_repeated`, the images of the
        most repeated one.
    """
    names = list(images.fragments)
    tables = context.compute(
        "captions",
        caption_keys,
        {n: {"images": images.fragments[n], "copies": copies.fragments[n]} for n in names},
    )
    keys = list(tables.values())
    if images.rows > params.rows_at_once:
        fragments = {name: (images.fragments[name], copies.fragments[name]) for name in names}
        return (yield from tally_in_parts(fragments, keys, context))
    repeats = count_repeats(keys)
    start = 0
    for name in names:
        stop = start + images.fragments[name].rows
        yield (
            name,
            tally_batch(images.fragments[name], copies.fragments[name], repeats.counts[start:stop]),
        )
        start = stop
    return {"captions": repeats.captions, "most_repeated": repeats.most_repeated}
