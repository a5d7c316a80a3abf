"""The fragments of `verified`: pairs in their order, cut at the same rows wherever they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.exchange import Exchange, exchange_records
from curation.engine.units import FILE_ROWS, StageOutput, empty_batch
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord

ROWS_PER_FRAGMENT = FILE_ROWS
"""Largest number of pairs of a fragment; one worker writes it."""
ROWS_PER_BATCH = 65_536


class RowRange(NamedTuple):
    """A fragment of `verified`: its name, its first row among all pairs, and the row after its last."""

    name: str
    start: int
    stop: int


def fragment_rows(rows: int) -> list[RowRange]:
    """Return the fragments of some rows, at least one."""
    if rows <= ROWS_PER_FRAGMENT:
        return [RowRange("all", 0, rows)]
    starts = range(0, rows, ROWS_PER_FRAGMENT)
    stops = [*starts[1:], rows]
    return [
        RowRange(f"pairs-{number:06d}", start, stop)
        for number, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def verified_batches(measured: Sequence[Fragment], rows: RowRange) -> Iterator[pa.RecordBatch]:
    """Yield some rows of `verified`, cut into batches that do not depend on the work tables.

    Args:
        measured: work tables with all pairs, in order.
        rows: which of these rows.
    """
    schema = contract("verified").arrow_schema()
    yield empty_batch(schema)
    waiting, count = [], 0
    for batch in _between(measured, rows, schema.names):
        waiting.append(batch)
        count += batch.num_rows
        while count >= ROWS_PER_BATCH:
            table = pa.Table.from_batches(waiting)
            yield from table.slice(0, ROWS_PER_BATCH).combine_chunks().to_batches()
            waiting, count = table.slice(ROWS_PER_BATCH).to_batches(), count - ROWS_PER_BATCH
    if count:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()


def _between(
    measured: Sequence[Fragment], rows: RowRange, names: list[str]
) -> Iterator[pa.RecordBatch]:
    end = 0
    for fragment in measured:
        start, end = end, end + fragment.rows
        if start >= rows.stop or end <= rows.start:
            continue
        for batch in fragment.batches(names, rows=ROWS_PER_BATCH):
            first, last = max(rows.start - start, 0), min(rows.stop - start, batch.num_rows)
            if first < last:
                yield batch.slice(first, last - first)
            start += batch.num_rows


def write_on_workers(measured: Sequence[Fragment], context: Context) -> Iterator[FragmentRecord]:
    """Yield the records of the fragments of `verified`, which workers write.

    Args:
        measured: work tables with all pairs, in order.
        context: where workers run.
    """
    fragments = fragment_rows(sum(fragment.rows for fragment in measured))
    job = Exchange(
        "write pairs",
        {},
        write_fragment,
        len(fragments),
        {"measured": list(measured)},
        lambda part: {fragments[part].name: "verified"},
        part_arguments=[{"fragment": fragment} for fragment in fragments],
    )
    yield from exchange_records(job, context)


def write_fragment(measured: list[Fragment], fragment: RowRange) -> StageOutput:
    """Write one fragment of `verified`.

    Args:
        measured: work tables with all pairs, in order.
        fragment: its rows.

    Yields:
        (name of the fragment, batch of `verified`).
    """
    for batch in verified_batches(measured, fragment):
        yield fragment.name, batch
    return None
