"""Finds staged rows that repeat an earlier row: the same URL, or the same pair.

Rows with the same key meet by an exchange, and what repeats goes back to the fragments by a second one.
The driver knows for each fragment only which work table has its duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.context import Context
from curation.engine.exchange import (
    KEY,
    Exchange,
    ExchangeInput,
    MapTask,
    exchange_tables,
    group_bounds,
    read_by_group,
)
from curation.engine.sorted_arrays import run_starts, runs
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput, empty_batch
from curation.stages.ingest.formats.source_row import DUPLICATE_KEY, DUPLICATE_KEY_BYTES
from curation.store.fragment import Fragment

ROWS_PER_PART = 2**20
"""Rows that a worker compares at once, at about 250 bytes each."""
ROWS_PER_BATCH = 65_536
_PLACE = [("fragment", pa.int32()), ("row", pa.int32())]
KEYED_ROWS = pa.schema(
    [(DUPLICATE_KEY, pa.binary(DUPLICATE_KEY_BYTES)), *_PLACE, ("pair_id", pa.string())]
)
"""A row with its key. `fragment` numbers all fragments, `row` the rows of one."""
REPEATS = pa.schema([*_PLACE, ("first", pa.string())])
"""A row that repeats another one, and the pair_id of the first row with its key."""


@dataclass(frozen=True)
class Duplicates:
    """The rows of a staged fragment that repeat an earlier row.

    Attributes:
        repeats: work table of REPEATS of several fragments, sorted; None if no row repeats another one.
        fragment: number of the fragment there.
        digest: of its rows; empty without any.
    """

    repeats: Fragment | None = None
    fragment: int = 0
    digest: str = ""

    @property
    def content(self) -> Any:
        """What memos depend on."""
        return self.digest or []

    def first_of(self) -> dict[int, str]:
        """Return for each row that repeats another one the pair_id of the first row with its key."""
        if self.repeats is None:
            return {}
        by_row: dict[int, str] = {}
        for table in self.repeats.row_groups_between("fragment", self.fragment, self.fragment):
            rows = table.filter(pc.field("fragment") == self.fragment)
            columns = (rows.column(name).to_pylist() for name in ("row", "first"))
            by_row.update(zip(*columns, strict=True))
        return by_row


def find_duplicates(staged: Sequence[Fragment], context: Context) -> list[Duplicates]:
    """Return the duplicates of each fragment; the first of the rows with a key is not one of them.

    Args:
        staged: fragments in the order in which rows count as first.
        context: where workers run.
    """
    parts = max(1, -(-sum(fragment.rows for fragment in staged) // ROWS_PER_PART))
    groups = split_by_rows(staged, ROWS_PER_PART) or [[]]
    bounds = group_bounds(groups)
    rows = [
        MapTask(read_keys, {"staged": group, "first": first})
        for group, first in zip(groups, bounds.tolist(), strict=False)
    ]
    job = Exchange("repeated rows", {"rows": ExchangeInput(KEYED_ROWS, rows)}, write_repeats, parts)
    repeat_tables = exchange_tables(job, context)
    repeats = [
        MapTask(read_by_group, {"rows": fragment, "bounds": bounds})
        for fragment in repeat_tables
        if fragment.rows
    ]
    duplicates = [Duplicates()] * len(staged)
    if repeats:
        inputs = {"repeats": ExchangeInput(REPEATS, repeats)}
        job = Exchange("duplicates", inputs, write_by_fragment, len(groups))
        for table in exchange_tables(job, context):
            for number, digest in table.stats["fragments"]:
                duplicates[number] = Duplicates(table.without_measurements(), number, digest)
    return duplicates


def read_keys(staged: Sequence[Fragment], first: int) -> Iterator[pa.Table]:
    """Yield KEYED_ROWS of the rows that have a key, keyed by it.

    Args:
        staged: some fragments.
        first: number of the first of them.
    """
    for number, fragment in enumerate(staged, first):
        start = 0
        for batch in fragment.batches([DUPLICATE_KEY, "pair_id"], rows=ROWS_PER_BATCH):
            rows = np.flatnonzero(batch.column(DUPLICATE_KEY).is_valid())
            table = pa.Table.from_batches([batch.take(pa.array(rows))])
            places = {"fragment": np.full(len(rows), number, np.int32), "row": start + rows}
            columns = {name: table.column(name) for name in table.schema.names} | places
            yield _keyed(pa.table(columns, schema=KEYED_ROWS))
            start += batch.num_rows


def _keyed(rows: pa.Table) -> pa.Table:
    return rows.append_column(KEY, pa.array(np.ascontiguousarray(_halves(rows)[:, 0])))


def _halves(rows: pa.Table) -> npt.NDArray[np.uint64]:
    """Return the keys of rows as two numbers each, shape (n, 2)."""
    column = rows.column(DUPLICATE_KEY).combine_chunks()
    words = DUPLICATE_KEY_BYTES // 8
    if not len(column):
        return np.empty((0, words), np.uint64)
    raw = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, words)
    return raw[column.offset : column.offset + len(column)]


def write_repeats(rows: pa.Table) -> StageOutput:
    """Write the rows that repeat an earlier one.

    Args:
        rows: all KEYED_ROWS of some keys.

    Yields:
        REPEATS.
    """
    keys = _halves(rows)
    fragment, row = (rows.column(name).to_numpy() for name in ("fragment", "row"))
    order = np.lexsort((row, fragment, keys[:, 1], keys[:, 0]))
    starts = run_starts(keys[order])
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))
    repeats = np.flatnonzero(~starts)
    at = order[repeats]
    firsts = rows.column("pair_id").take(pa.array(order[first[repeats]]))
    table = pa.table([fragment[at], row[at], firsts], REPEATS.names).cast(REPEATS)
    yield empty_batch(REPEATS)
    yield from table.combine_chunks().to_batches(ROWS_PER_BATCH)
    return None


def write_by_fragment(repeats: pa.Table) -> StageOutput:
    """Write the duplicates of a group of fragments, sorted by fragment and row.

    Args:
        repeats: all REPEATS of the group.

    Yields:
        REPEATS.

    Returns:
        `fragments`, a pair for each fragment that has some: its number, and the digest of its rows.
    """
    repeats = repeats.sort_by([("fragment", "ascending"), ("row", "ascending")]).combine_chunks()
    yield empty_batch(REPEATS)
    yield from repeats.to_batches(ROWS_PER_BATCH)
    return {
        "fragments": [
            [fragment, _digest(repeats.slice(start, stop - start))]
            for fragment, start, stop in runs(repeats.column("fragment").to_numpy())
        ]
    }


def _digest(rows: pa.Table) -> str:
    numbers, firsts = rows.column("row").to_numpy(), rows.column("first").to_pylist()
    return sha256(numbers.astype("<i4").tobytes() + "\n".join(firsts).encode()).hexdigest()
