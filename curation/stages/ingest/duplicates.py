"""Finds staged rows that repeat an earlier row: the same URL, or the same pair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.stages.ingest.formats.source_row import DUPLICATE_KEY, DUPLICATE_KEY_BYTES
from curation.store.fragment import Fragment

ROWS_PER_PASS = 2**27
"""A row takes a key of 16 bytes, and about 32 bytes while keys are sorted: 6 GB per pass."""

Duplicates = list[list[Any]]
"""Duplicates of a fragment: [row, pair_id of the first row with the same key], by row."""

_SAVED = pa.schema([("fragment", pa.int64()), ("row", pa.int64()), ("first", pa.string())])


def find_duplicates(
    staged: Sequence[Fragment], rows_per_pass: int = ROWS_PER_PASS
) -> list[Duplicates]:
    """Return the duplicates of each fragment; of rows with the same key, the first is none.

    Args:
        staged: fragments in the order in which rows count as first.
        rows_per_pass: limits the memory. More rows are compared in several passes, each over the keys
            of one residue class.
    """
    starts = np.cumsum([0, *(f.rows for f in staged)])
    passes = max(1, -(-int(starts[-1]) // rows_per_pass))
    results = [_duplicates_in_pass(staged, starts, number, passes) for number in range(passes)]
    rows = np.concatenate([rows for rows, _ in results])
    firsts = np.concatenate([firsts for _, firsts in results])
    order = np.argsort(rows)
    rows, firsts = rows[order], firsts[order]
    first_ids = _pair_ids(staged, starts, firsts)
    bounds = np.searchsorted(rows, starts)
    return [
        [[int(rows[i] - starts[n]), first_ids[i]] for i in range(bounds[n], bounds[n + 1])]
        for n in range(len(staged))
    ]


def to_rows(duplicates: Sequence[Duplicates]) -> pa.RecordBatch:
    """Return the duplicates of fragments as rows: number of the fragment, row, first pair_id."""
    rows = [(n, row, first) for n, repeats in enumerate(duplicates) for row, first in repeats]
    columns = [pa.array([row[place] for row in rows], f.type) for place, f in enumerate(_SAVED)]
    return pa.RecordBatch.from_arrays(columns, schema=_SAVED)


def from_rows(saved: pa.Table, fragments: int) -> list[Duplicates]:
    """Return the duplicates of each fragment that `to_rows` was called with."""
    duplicates: list[Duplicates] = [[] for _ in range(fragments)]
    columns = (saved.column(name).to_pylist() for name in _SAVED.names)
    for number, row, first in zip(*columns, strict=True):
        duplicates[number].append([row, first])
    return duplicates


def _keys(fragment: Fragment) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
    """Yield row numbers and keys (uint64 of shape (rows, 2)) of the rows that have a key."""
    start = 0
    for batch in fragment.batches([DUPLICATE_KEY], rows=65_536):
        column = batch.column(0)
        valid = np.asarray(column.is_valid())
        raw = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, DUPLICATE_KEY_BYTES // 8)
        keys = raw[column.offset : column.offset + len(column)]
        yield start + np.flatnonzero(valid), keys[valid]
        start += len(column)


def _duplicates_in_pass(
    staged: Sequence[Fragment], starts: npt.NDArray[np.int64], number: int, passes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows that are not the first with their key, and the first row with that key."""
    all_rows, all_keys = [np.empty(0, np.int64)], [np.empty((0, 2), np.uint64)]
    for fragment, start in zip(staged, starts, strict=False):
        for rows, keys in _keys(fragment):
            in_pass = keys[:, 0] % np.uint64(passes) == number
            all_rows.append(start + rows[in_pass])
            all_keys.append(keys[in_pass])
    rows, keys = np.concatenate(all_rows), np.concatenate(all_keys)
    # The sort is stable, so the first of equal keys is the first row.
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    same = np.concatenate([[False], (keys[1:] == keys[:-1]).all(axis=1)])[: len(order)]
    group_start = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    duplicates = np.flatnonzero(same)
    return rows[order[duplicates]], rows[order[group_start[duplicates]]]


def _pair_ids(
    staged: Sequence[Fragment], starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> list[str]:
    """Return the pair_id of each of `rows`, reading only the fragments that hold one."""
    pair_ids = np.empty(len(rows), object)
    fragment_of_row = np.searchsorted(starts, rows, side="right") - 1
    for number in np.unique(fragment_of_row):
        in_fragment = np.flatnonzero(fragment_of_row == number)
        column = staged[number].read(["pair_id"]).column(0)
        pair_ids[in_fragment] = column.take(rows[in_fragment] - starts[number]).to_pylist()
    return list(pair_ids)
