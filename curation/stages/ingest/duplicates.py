"""Which staged rows ask for what an earlier row asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from curation.engine.fragment import Fragment
from curation.engine.runs import run_starts
from curation.stages.ingest.formats.source_row import KEY_BYTES, SAME_AS

# A row costs 16 bytes of key and about 32 while keys are sorted: 6 GB a pass on the driver.
ROWS_A_PASS = 2**27

Losers = list[list[list[object]]]


def find_duplicates(staged: Sequence[Fragment], rows_a_pass: int = ROWS_A_PASS) -> Losers:
    """Return for each fragment `[row, pair_id of the first row that asks for the same]`, by row.

    Memory is bounded by `rows_a_pass`: beyond it keys are compared in several passes, each over
    the keys of one residue.
    """
    starts = np.cumsum([0, *(f.rows for f in staged)])
    passes = max(1, -(-int(starts[-1]) // rows_a_pass))
    found = [_losers(staged, starts, number, passes) for number in range(passes)]
    rows = np.concatenate([rows for rows, _ in found])
    firsts = np.concatenate([firsts for _, firsts in found])
    order = np.argsort(rows)
    rows, firsts = rows[order], firsts[order]
    names = _pair_ids(staged, starts, firsts)
    bounds = np.searchsorted(rows, starts)
    return [
        [[int(rows[i] - starts[n]), names[i]] for i in range(bounds[n], bounds[n + 1])]
        for n in range(len(staged))
    ]


def _keys(fragment: Fragment) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
    """Yield row numbers and keys (uint64 of shape (rows, 2)) of the rows that have one."""
    start = 0
    for batch in fragment.batches([SAME_AS], rows=65_536):
        column = batch.column(0)
        valid = np.asarray(column.is_valid())
        raw = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, KEY_BYTES // 8)
        keys = raw[column.offset : column.offset + len(column)]
        yield start + np.flatnonzero(valid), keys[valid]
        start += len(column)


def _losers(
    staged: Sequence[Fragment], starts: npt.NDArray[np.int64], number: int, passes: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows that come second or later among equal keys, and the first row of each."""
    all_rows, all_keys = [np.empty(0, np.int64)], [np.empty((0, 2), np.uint64)]
    for fragment, start in zip(staged, starts, strict=False):
        for rows, keys in _keys(fragment):
            mine = keys[:, 0] % np.uint64(passes) == number
            all_rows.append(start + rows[mine])
            all_keys.append(keys[mine])
    rows, keys = np.concatenate(all_rows), np.concatenate(all_keys)
    # The sort is stable, so the first of equal keys is the first row.
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys = keys[order]
    first = run_starts(keys)
    group_start = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    losers = np.flatnonzero(~first)
    return rows[order[losers]], rows[order[group_start[losers]]]


def _pair_ids(
    staged: Sequence[Fragment], starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> list[str]:
    """Return the pair_id of each of `rows`, reading only the fragments that hold one."""
    names = np.empty(len(rows), object)
    owner = np.searchsorted(starts, rows, side="right") - 1
    for number in np.unique(owner):
        mine = np.flatnonzero(owner == number)
        column = staged[number].read(["pair_id"]).column(0)
        names[mine] = column.take(rows[mine] - starts[number]).to_pylist()
    return list(names)
