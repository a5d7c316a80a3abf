"""The lists of copies in the rows that represent them, with URLs and captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import RowNumbers
from curation.engine.sorted_arrays import ranks_in_runs
from curation.stages.dedup.fetched_rows import FetchedRows

TEXTS_AT_ONCE = 2_000_000
"""Copies whose URLs and captions are in memory at once."""
MAX_LISTED = 1_000
"""Copies that the row of their representative lists. Every copy has a row of its own as well."""
LIST_FIELDS = ["pair_id", "image_id", "url", "caption"]


@dataclass(frozen=True)
class ListedCopies:
    """Rows that are copies of another row, sorted by that row.

    Attributes:
        rows: the copies, shape (c,).
        representatives: the row that each copies, shape (c,).
    """

    rows: RowNumbers
    representatives: RowNumbers


def listed_copies(
    fetched: FetchedRows, rows: RowNumbers, representatives: RowNumbers
) -> ListedCopies:
    """Return the first MAX_LISTED copies of each row, by image id and row.

    Args:
        fetched: all rows.
        rows: rows that copy another, shape (c,).
        representatives: the row that each copies, shape (c,).
    """
    order = np.lexsort((rows, fetched.image_ids[rows], representatives))
    rows, representatives = rows[order], representatives[order]
    listed = ranks_in_runs(representatives) < MAX_LISTED
    return ListedCopies(rows[listed], representatives[listed])


def copy_list_columns(
    fetched: FetchedRows, copies: ListedCopies, bounds: RowNumbers, list_type: pa.DataType
) -> Iterator[pa.Array]:
    """Yield the column of lists for each range of rows; null for rows without copies.

    Args:
        fetched: all rows.
        copies: the copies to list.
        bounds: where ranges of rows begin, from 0, and after them the number of rows.
        list_type: type of the column.
    """
    copy_bounds = np.searchsorted(copies.representatives, bounds)
    first = 0
    ranges = len(bounds) - 1
    while first < ranges:
        last = first + 1
        while last < ranges and copy_bounds[last + 1] - copy_bounds[first] <= TEXTS_AT_ONCE:
            last += 1
        texts = fetched.texts(copies.rows[copy_bounds[first] : copy_bounds[last]], LIST_FIELDS)
        for number in range(first, last):
            start, stop = copy_bounds[number], copy_bounds[number + 1]
            representatives = copies.representatives[start:stop] - bounds[number]
            rows = int(bounds[number + 1] - bounds[number])
            range_texts = texts.slice(start - copy_bounds[first], stop - start)
            yield _list_array(range_texts, representatives, rows, list_type)
        first = last


def _list_array(
    texts: pa.Table, representatives: RowNumbers, rows: int, list_type: pa.DataType
) -> pa.Array:
    """Return one list per row.

    Args:
        texts: LIST_FIELDS of the copies, sorted by representative.
        representatives: the row, from 0, that each copies.
        rows: number of rows.
        list_type: type of the column.
    """
    fields = list_type.value_type
    columns = [texts.column(f.name).combine_chunks().cast(f.type) for f in fields]
    values = pa.StructArray.from_arrays(columns, fields=list(fields))
    offsets = np.searchsorted(representatives, np.arange(rows + 1)).astype(np.int32)
    empty = np.append(np.diff(offsets) == 0, False)
    return pa.ListArray.from_arrays(pa.array(offsets, mask=empty), values, type=list_type)
