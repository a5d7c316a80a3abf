"""How many values the rows of nested Parquet columns have, by the repetition levels of a page.

A few bytes of levels may say that a row has a billion values.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from curation.media.files.thrift import ThriftError

_FEW_GROUPS = 16
"""Up to so many groups of eight levels are looked up one by one; arrays are faster for more."""
_BLOCK_GROUPS = 8192
"""Groups that are unpacked together."""
Run: TypeAlias = tuple[int, int, int, int, int]
"""Of successive levels: their number, the rows that begin there, levels before the first of these, from
the last of these on, and the most between two."""


class Rows(NamedTuple):
    """Rows that begin in a page.

    Attributes:
        number: how many.
        longest: values of the longest, of the one among them that began in an earlier page too.
        open: values of the last one so far.
    """

    number: int
    longest: int
    open: int


def rows_of(levels: bytes, values: int, width: int, before: int) -> Rows:
    """Return the rows of a page.

    Args:
        levels: repetition levels in Parquet's hybrid of run lengths and packed bits.
        values: of the page.
        width: bits of a level.
        before: values of the row that is not ended before the page.

    Raises:
        ThriftError: the levels are damaged.
    """
    count, longest, row = 0, before, before
    for length, starts, head, tail, inner in _runs(levels, values, width):
        count += starts
        row += head
        longest = max(longest, row, inner, tail)
        row = tail if starts else row
        values -= length
    return Rows(count, longest, row)


def _runs(levels: bytes, values: int, width: int) -> Iterator[Run]:
    """Yield runs until they have so many values, the last of which may have up to seven more."""
    at, end = 0, len(levels)
    while values > 0:
        header, at = _varint(levels, at)
        count = header >> 1
        if not count or at >= end:
            raise ThriftError("levels are cut off")
        if header & 1:
            size = min(count * width, end - at)
            for run in _packed(levels[at : at + size], values, width):
                yield run
                values -= run[0]
        else:
            size = (width + 7) // 8
            count = min(count, values)
            is_start = not any(levels[at : at + size])
            yield (count, count, 0, 1, 1) if is_start else (count, 0, count, 0, 0)
            values -= count
        at += size


def _packed(packed: bytes, values: int, width: int) -> Iterator[Run]:
    if width <= 2 and len(packed) <= _FEW_GROUPS * width and 8 * len(packed) <= values * width:
        table = _table(width)
        for at in range(0, len(packed) - width + 1, width):
            yield table[int.from_bytes(packed[at : at + width], "little")]
        return
    for start in range(0, len(packed), _BLOCK_GROUPS * width):
        run = _of(_unpacked(packed[start : start + _BLOCK_GROUPS * width], width)[:values])
        yield run
        values -= run[0]


def _of(levels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Run:
    starts, count = np.flatnonzero(levels == 0), len(levels)
    if not len(starts):
        return count, 0, count, 0, 0
    inner = int(np.diff(starts).max()) if len(starts) > 1 else 0
    return count, len(starts), int(starts[0]), count - int(starts[-1]), inner


@lru_cache
def _table(width: int) -> list[Run]:
    """Return what the groups of eight levels say, by their bytes."""
    return [_of(_unpacked(group.to_bytes(width, "little"), width)) for group in range(256**width)]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift <= 35:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
    raise ThriftError("levels are cut off")


def _unpacked(content: bytes, width: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
    whole = len(bits) // width * width
    weights = 1 << np.arange(width, dtype=np.int64)
    result: np.ndarray[tuple[int], np.dtype[np.int64]] = bits[:whole].reshape(-1, width) @ weights
    return result
