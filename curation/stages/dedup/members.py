"""What stands beside a representative: the rows that copy it, with their URLs and captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.stages.dedup.rows import Fetched, Ints

GATHERED = 2_000_000
"""Copies whose URLs and captions are held at once."""
LISTED = 1_000
"""Copies of one picture that its row lists; all have rows of their own."""
TEXTS = ["pair_id", "image_id", "url", "caption"]


@dataclass(frozen=True)
class Copied:
    """Rows that copy another row, in the order of that row: `rows` copy `of`, (c,) each."""

    rows: Ints
    of: Ints


def copied(fetched: Fetched, rows: Ints, of: Ints) -> Copied:
    """Return the first LISTED of the copies of each row, by image and row.

    Args:
        fetched: all rows.
        rows: that copy another, (c,).
        of: what each copies.
    """
    order = np.lexsort((rows, fetched.images[rows], of))
    rows, of = rows[order], of[order]
    _, start, count = np.unique(of, return_index=True, return_counts=True)
    listed = np.arange(len(of)) - np.repeat(start, count) < LISTED
    return Copied(rows[listed], of[listed])


def members(
    fetched: Fetched, copies: Copied, bounds: Ints, kind: pa.DataType
) -> Iterator[pa.Array]:
    """Yield for each stretch of rows between two of the bounds, which begin with 0 and end with the
    number of rows, the list column of its rows, null for rows without copies."""
    ends = np.searchsorted(copies.of, bounds)
    first = 0
    stretches = len(bounds) - 1
    while first < stretches:
        last = first + 1
        while last < stretches and ends[last + 1] - ends[first] <= GATHERED:
            last += 1
        texts = fetched.texts(copies.rows[ends[first] : ends[last]], TEXTS)
        for number in range(first, last):
            part = slice(ends[number] - ends[first], ends[number + 1] - ends[first])
            own = copies.of[ends[number] : ends[number + 1]] - bounds[number]
            rows = int(bounds[number + 1] - bounds[number])
            yield _lists(texts.slice(part.start, part.stop - part.start), own, rows, kind)
        first = last


def _lists(texts: pa.Table, own: Ints, rows: int, kind: pa.DataType) -> pa.Array:
    """Return one list a row from copies in the order of the rows that they copy."""
    fields = kind.value_type
    columns = [texts.column(f.name).combine_chunks().cast(f.type) for f in fields]
    values = pa.StructArray.from_arrays(columns, fields=list(fields))
    offsets = np.searchsorted(own, np.arange(rows + 1)).astype(np.int32)
    empty = np.append(offsets[1:] == offsets[:-1], False)
    return pa.ListArray.from_arrays(pa.array(offsets, mask=empty), values, type=kind)
