"""What stands beside a representative: the rows that copy it, with their URLs and captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.dedup.rows import Fetched, Ints

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


def members_by_fragment(fetched: Fetched, copies: Copied, kind: pa.DataType) -> Iterator[pa.Array]:
    """Yield for each fragment in turn the list column of its rows, null for rows without copies."""
    ends = np.searchsorted(copies.of, fetched.ends)
    first = 0
    fragments = len(fetched.fragments)
    while first < fragments:
        last = first + 1
        while last < fragments and ends[last + 1] - ends[first] <= GATHERED:
            last += 1
        texts = fetched.columns(copies.rows[ends[first] : ends[last]], TEXTS)
        for number in range(first, last):
            part = slice(ends[number] - ends[first], ends[number + 1] - ends[first])
            own = copies.of[ends[number] : ends[number + 1]] - fetched.ends[number]
            rows = int(fetched.ends[number + 1] - fetched.ends[number])
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
