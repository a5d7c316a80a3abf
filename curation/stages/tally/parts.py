"""Counts repeated captions in parts on workers: rows with the same caption meet in one part.

Keys of captions go to the part of their caption, and counts to the fragment of their row. Each part is
counted as all rows would be on the driver, so the table is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from curation.engine.context import Context
from curation.engine.exchange import (
    KEY,
    Exchange,
    ExchangeInput,
    MapTask,
    exchange_records,
    group_bounds,
    read_by_group,
)
from curation.engine.exchange_runner import OnWorkers
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput, empty_batch
from curation.stages.tally.captions import (
    CAPTION_KEY,
    IMAGE_KEY,
    SCHEMA,
    Keys,
    count_images,
    key_words,
)
from curation.stages.tally.rows import tally_batch
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord

ROWS_PER_PART = 2_000_000
"""Rows that a worker counts at once: some hundred MB."""
ROWS_AT_ONCE = 65_536
POSITION = [("fragment", pa.int32()), ("row", pa.int32())]
KEYED_ROWS = pa.schema([*POSITION, *SCHEMA])
COUNTED_ROWS = pa.schema([*POSITION, ("images", pa.int32())])
"""Rows that count, with the number of images that have their caption."""


def tally_in_parts(
    fragments: Mapping[str, tuple[Fragment, Fragment]],
    keys: Sequence[Fragment],
    context: Context,
) -> StageOutput:
    """Count in parts how many different images have each row's caption.

    Args:
        fragments: fragments of `images` and `copies` by name, in order.
        keys: work tables of `caption_keys`, in the same order.
        context: where workers run, and where they keep work tables.

    Yields:
        The record of each fragment of `tallies`.

    Returns:
        As `tally`.
    """
    runner = OnWorkers(context.private())
    groups = split_by_rows(keys, ROWS_PER_PART)
    tasks = [
        MapTask(read_keys, {"tables": group, "first": first})
        for group, first in zip(groups, group_bounds(groups).tolist(), strict=False)
    ]
    parts = max(1, -(-sum(table.rows for table in keys) // ROWS_PER_PART))
    inputs = {"rows": ExchangeInput(KEYED_ROWS, tasks)}
    counted = runner.exchange(Exchange("captions by key", inputs, count_part, parts))
    yield from _write(fragments, counted, runner.context)
    runner.delete()
    return {
        "captions": sum(table.stats["captions"] for table in counted),
        "most_repeated": max(table.stats["most_repeated"] for table in counted),
    }


def read_keys(tables: Sequence[Fragment], first: int) -> Iterator[pa.Table]:
    """Yield KEYED_ROWS of rows that count, keyed by caption.

    Args:
        tables: work tables of `caption_keys`.
        first: number of the first of these fragments.
    """
    for number, table in enumerate(tables, first):
        start = 0
        for batch in table.batches([CAPTION_KEY, IMAGE_KEY], rows=ROWS_AT_ONCE):
            row = np.flatnonzero(np.asarray(batch.column(CAPTION_KEY).is_valid()))
            taken = batch.take(pa.array(row))
            fragment = np.full(len(row), number, np.int32)
            columns = [pa.array(fragment), pa.array((start + row).astype(np.int32)), *taken.columns]
            rows = pa.table(columns, schema=KEYED_ROWS)
            yield rows.append_column(KEY, pa.array(key_words(taken, CAPTION_KEY)[:, 0]))
            start += len(batch)


def count_part(rows: pa.Table) -> StageOutput:
    """Count the images of each caption.

    Args:
        rows: all KEYED_ROWS of some captions.

    Yields:
        COUNTED_ROWS.

    Returns:
        `captions` and `most_repeated` of the part.
    """
    yield empty_batch(COUNTED_ROWS)
    caption, image = (key_words(rows, name) for name in (CAPTION_KEY, IMAGE_KEY))
    keys: Keys = np.concatenate([image, caption], axis=1)
    images, captions = count_images(keys)
    table = rows.select([name for name, _ in POSITION]).append_column("images", pa.array(images))
    yield from table.cast(COUNTED_ROWS).to_batches(ROWS_AT_ONCE)
    return {"captions": captions, "most_repeated": int(images.max(initial=0))}


def _write(
    fragments: Mapping[str, tuple[Fragment, Fragment]],
    counted: Sequence[Fragment],
    context: Context,
) -> Iterator[FragmentRecord]:
    """Yield the records of the fragments of `tallies`, which workers write."""
    images = [fragment for fragment, _ in fragments.values()]
    bounds = group_bounds(split_by_rows(images, ROWS_PER_PART))
    names = list(fragments)
    groups = [names[start:stop] for start, stop in pairwise(bounds.tolist())]
    tasks = [MapTask(read_by_group, {"rows": table, "bounds": bounds}) for table in counted]
    job = Exchange(
        "write tallies",
        {"rows": ExchangeInput(COUNTED_ROWS, tasks)},
        write_group,
        len(groups),
        outputs=lambda part: dict.fromkeys(groups[part], "tallies"),
        part_arguments=[
            {"fragments": [(name, *fragments[name]) for name in group], "first": first}
            for group, first in zip(groups, bounds.tolist(), strict=False)
        ],
    )
    if groups:
        yield from exchange_records(job, context)


def write_group(
    rows: pa.Table, fragments: Sequence[tuple[str, Fragment, Fragment]], first: int
) -> StageOutput:
    """Write the tallies of one group of fragments.

    Args:
        rows: all COUNTED_ROWS of the group.
        fragments: of the group: name, fragment of `images` and fragment of `copies`.
        first: number of the first of them.

    Yields:
        (name of the fragment, batch of `tallies`).
    """
    rows = rows.sort_by([("fragment", "ascending")]).combine_chunks()
    fragment, row, images = (np.asarray(rows.column(name)) for name in COUNTED_ROWS.names)
    bounds = np.searchsorted(fragment, first + np.arange(len(fragments) + 1))
    for (name, image_rows, copies), (start, stop) in zip(
        fragments, pairwise(bounds.tolist()), strict=True
    ):
        counts = np.zeros(image_rows.rows, np.int32)
        counts[row[start:stop]] = images[start:stop]
        yield name, tally_batch(image_rows, copies, counts)
    return None
