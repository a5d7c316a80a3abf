"""The pages of a Parquet file by their headers, which say what Arrow will allocate for them.

Arrow takes whole pages and dictionaries into memory, and has no limit of its own. The footer alone
tells little: one dictionary entry may be repeated a billion times by a few bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.files import parquet_deltas
from curation.media.files.limits import (
    PARQUET_BYTES,
    PARQUET_ENTRIES,
    PARQUET_PAGE_HEADER_BYTES,
    PARQUET_PAGE_VALUES,
    PARQUET_PAGES,
)
from curation.media.files.parquet_footer import TooLargeError, read_at
from curation.media.files.thrift import IncompleteError, Reader, Struct, ThriftError

_HEAD_BYTES = 1 << 16
_HEADER_BYTES = 64
"""Bytes of a usual header: longer ones count as several."""
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADER_OF = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""The field with the rest of a page's header, by the type of the page."""
_CODECS = {"SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "ZSTD": "zstd"} | dict.fromkeys(
    ("LZ4", "LZ4_RAW"), "lz4_raw"
)
DICTIONARY_ENCODINGS = (2, 8)
_PLAIN, _RLE = 0, 3


class Page(NamedTuple):
    """One page of data.

    Attributes:
        values: number of values, nulls and repeated ones among them.
        packed: bytes in the file.
        size: bytes without compression.
        encoding: of the values, as Parquet numbers it.
        at: where its content begins in the file.
        levels: bytes of repetition and definition levels before the values; None if the page says it.
        is_packed: whether its values are compressed.
        encodings: of its repetition and definition levels.
    """

    values: int
    packed: int
    size: int
    encoding: int
    at: int
    levels: tuple[int, int] | None
    is_packed: bool
    encodings: tuple[int, int] = (_RLE, _RLE)


class Budget:
    """What may still be read of a file.

    Args:
        left: how much.
        problem: what it means that more is asked for.
    """

    def __init__(self, left: int, problem: str) -> None:
        self._left, self._problem = left, problem

    def take(self, amount: int) -> None:
        """Take a part, also if it is too much: what is refused once must not be looked at again.

        Raises:
            TooLargeError: it is too much.
        """
        self._left -= amount
        if self._left < 0:
            raise TooLargeError(self._problem)


class Budgets(NamedTuple):
    """What may still be read of a file: headers of pages, and bytes of pages without compression."""

    headers: Budget
    unpacked: Budget


class Chunk(NamedTuple):
    """The pages of one column in one row group.

    Attributes:
        pages: those of data.
        dictionary: size of the dictionary in bytes without compression, 0 without one.
        entry: size of its largest text in bytes.
    """

    pages: list[Page]
    dictionary: int
    entry: int


def read_chunk(
    stream: Any, column: pq.ColumnChunkMetaData, levels: tuple[int, int], budgets: Budgets
) -> Chunk:
    """Return the pages of a column in a row group.

    Only headers, the dictionary, and pages with texts in delta encodings are read.

    Args:
        stream: the file.
        column: the column.
        levels: its largest repetition and definition levels.
        budgets: what may be read.

    Raises:
        TooLargeError: a header or the dictionary exceeds the limits, or the budgets are spent.
        ThriftError: a header is damaged.
    """
    pages, dictionary, entry = list[Page](), 0, 0
    for number, (header, at) in enumerate(_headers(stream, column, budgets.headers), 1):
        if number > PARQUET_PAGES:
            raise TooLargeError(f"a column has more than {PARQUET_PAGES:,} pages in a row group")
        kind, size, packed = header.number(1, -1), header.number(2, -1), header.number(3, -1)
        fields = header.get(_HEADER_OF.get(kind, 0))
        if size < 0 or packed < 0:
            raise ThriftError("a page has a negative size")
        if size + packed > PARQUET_BYTES:
            raise TooLargeError(f"a page has {size:,} bytes ({packed:,} compressed)")
        budgets.unpacked.take(size)
        if not isinstance(fields, Struct):
            raise ThriftError("a page is of no kind that is known")
        if kind == _DICTIONARY:
            dictionary += size
            if 2 * dictionary > PARQUET_BYTES:
                raise TooLargeError(f"a dictionary has {dictionary:,} bytes")
            entry = max(entry, _largest_entry(stream, column, at, packed, size))
        else:
            page = _page(fields, kind, (packed, size), at)
            if page.encoding in (parquet_deltas.LENGTHS, parquet_deltas.BYTES):
                content = _values_of(stream, column, page, levels)
                parquet_deltas.check_lengths(content, page.encoding, page.values)
            pages.append(page)
    return Chunk(pages, dictionary, entry)


def _page(fields: Struct, kind: int, sizes: tuple[int, int], at: int) -> Page:
    values = fields.number(1, -1)
    if values < 0:
        raise ThriftError("a page has a negative number of values")
    if values > PARQUET_PAGE_VALUES:
        raise TooLargeError(f"a page has {values:,} values, more than {PARQUET_PAGE_VALUES:,}")
    packed, size = sizes
    if kind == _DATA:
        encodings = (fields.number(4, _RLE), fields.number(3, _RLE))
        return Page(values, packed, size, fields.number(2), at, None, True, encodings)
    levels = (max(fields.number(6), 0), max(fields.number(5), 0))
    return Page(values, packed, size, fields.number(4), at, levels, bool(fields.get(7, True)))


def _values_of(
    stream: Any, column: pq.ColumnChunkMetaData, page: Page, levels: tuple[int, int]
) -> memoryview:
    """Return the content of a page after its levels.

    Raises:
        ThriftError: it is damaged, or its levels are in an encoding that is no longer written.
    """
    if page.levels is not None:
        skipped = sum(page.levels)
        packed, size = page.packed - skipped, page.size - skipped
        if packed < 0 or size < 0:
            raise ThriftError("a page has more levels than bytes")
        if not page.is_packed:
            return memoryview(read_at(stream, page.at + skipped, packed))
        return memoryview(unpacked(stream, column, page.at + skipped, packed, size))
    content, at = unpacked(stream, column, page.at, page.packed, page.size), 0
    for level, encoding in zip(levels, page.encodings, strict=True):
        if level and encoding != _RLE:
            raise ThriftError("a page has levels in an encoding that is no longer written")
        if level:
            at += 4 + int.from_bytes(content[at : at + 4], "little")
    return memoryview(content)[at:]


def _headers(
    stream: Any, column: pq.ColumnChunkMetaData, budget: Budget
) -> Iterator[tuple[Struct, int]]:
    """Yield the header of each page that Arrow reads, and the place after it."""
    at = column.data_page_offset
    if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < at:
        at = column.dictionary_page_offset
    end, seen = at + column.total_compressed_size, 0
    block, start = b"", at
    while seen < column.num_values and at < end:
        if not start <= at < start + len(block):
            block, start = read_at(stream, at, _HEAD_BYTES), at
        reader = Reader(block[at - start :])
        try:
            header = reader.struct()
        except IncompleteError:
            # A header may hold long statistics.
            block, start = read_at(stream, at, PARQUET_PAGE_HEADER_BYTES), at
            reader = Reader(block)
            header = reader.struct()
        budget.take(1 + reader.at // _HEADER_BYTES)
        at += reader.at
        yield header, at
        kind = header.number(1, -1)
        if kind != _DICTIONARY:
            seen += header[_HEADER_OF[kind]].number(1)
        at += header.number(3)


def unpacked(stream: Any, column: pq.ColumnChunkMetaData, at: int, packed: int, size: int) -> bytes:
    """Return the content of a page without compression.

    Raises:
        ThriftError: it cannot be decompressed.
    """
    content = read_at(stream, at, packed)
    if column.compression == "UNCOMPRESSED":
        return content
    try:
        return bytes(pa.Codec(_CODECS[column.compression]).decompress(content, size, asbytes=True))
    except (KeyError, ValueError, OSError) as error:
        raise ThriftError(f"a page cannot be decompressed ({error})") from error


def _largest_entry(
    stream: Any, column: pq.ColumnChunkMetaData, at: int, packed: int, size: int
) -> int:
    """Return the size of the largest entry of a dictionary, or what no entry exceeds."""
    if column.physical_type != "BYTE_ARRAY":
        return 0
    if packed + size > PARQUET_BYTES:
        return size
    try:
        content = unpacked(stream, column, at, packed, size)
    except ThriftError:
        # Hadoop's own LZ4: Arrow knows it.
        return size
    return min(_largest(memoryview(content)), size)


def largest_value(
    stream: Any, column: pq.ColumnChunkMetaData, levels: tuple[int, int], page: Page
) -> int:
    """Return the size of the largest text of a page, or what none exceeds; the page is read for it."""
    if column.physical_type != "BYTE_ARRAY" or page.encoding != _PLAIN:
        return page.size
    try:
        return min(_largest(_values_of(stream, column, page, levels)), page.size)
    except ThriftError:
        return page.size


def _largest(content: memoryview) -> int:
    """Return the size of the largest of some texts, each after its length, or what none exceeds."""
    largest, place, end = 0, 0, len(content) - 4
    for _ in range(PARQUET_ENTRIES):
        if place > end:
            return largest
        length = int.from_bytes(content[place : place + 4], "little")
        largest = max(largest, length)
        place += 4 + length
    # What follows is not looked at.
    return max(largest, len(content) - place)
