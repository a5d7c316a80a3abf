"""What reading the columns of a row group takes in memory, by the headers of their pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from curation.media.files import parquet_deltas
from curation.media.files.limits import BATCH_BYTES
from curation.media.files.parquet_levels import Rows
from curation.media.files.parquet_pages import DICTIONARY_ENCODINGS, Chunk, Page

_VALUE_BYTES = 16
"""What Arrow needs for a value besides its bytes: levels, offset, validity, or the number itself."""
_LEAST_VALUES = 1024
"""Values of a fixed width for which Arrow takes memory at once, however few are asked for."""


class _Span(NamedTuple):
    """The rows of one page, and what its values take.

    Attributes:
        first: number of its first row.
        rows: how many of its rows follow.
        values: its values.
        longest: values of a row, at most.
        content: bytes of all its values, where these limit them.
        largest: bytes of one of its values, at most.
        each: bytes of a value besides.
        least: values for which Arrow takes memory at least.
    """

    first: int
    rows: int
    values: int
    longest: int
    content: int
    largest: int
    each: int
    least: int

    def needed(self, rows: int) -> int:
        """Return what some rows take in bytes."""
        values = min(self.values, max(rows * self.longest, self.least))
        return min(self.content, values * self.largest) + values * self.each


class Column:
    """What reading a column of a row group takes.

    Args:
        chunk: its pages.
        width: bytes of each value, if all have as many.
        largest: returns the bytes of the largest value of a page; None for a column with lists.

    Attributes:
        chunk: its pages.
        held: bytes that stay while its rows are read: the largest page and the dictionary.
        total: bytes that all its values take.
    """

    def __init__(self, chunk: Chunk, width: int, largest: Callable[[Page], int] | None) -> None:
        self.chunk, self._width, self._largest = chunk, width, largest
        pages = max(map(_page_bytes, chunk.pages), default=0)
        # A dictionary is decompressed, and then copied.
        self.held = pages + 2 * chunk.dictionary
        self._spans: list[_Span] = []
        self._end = 0
        for page in chunk.pages:
            # Of a nested column, all values may belong to one row.
            self._append(page, page.values, 1, page.size)
        self.total = sum(span.needed(span.values) for span in self._spans)

    def set_rows(self, rows_of_pages: list[Rows]) -> None:
        """Say how many rows begin in each page of a nested column, and how long they are."""
        self._spans, self._end = [], 0
        for page, rows in zip(self.chunk.pages, rows_of_pages, strict=True):
            self._append(page, rows.number, rows.longest, page.size)

    def look_at_values(self) -> None:
        """Read how large the values of each page are, where rows have one value."""
        if self._largest is None:
            return
        self._spans, self._end = [], 0
        for page in self.chunk.pages:
            self._append(page, page.values, 1, self._largest(page))

    def _append(self, page: Page, rows: int, longest: int, largest: int) -> None:
        content, each = page.size, self._width
        if page.encoding in DICTIONARY_ENCODINGS:
            content, each = 0, max(each, self.chunk.entry)
        elif page.encoding == parquet_deltas.BYTES:
            # Each may begin as the one before it.
            content, each = 0, page.size
        # The row that a nested page begins with may be the last of the page before.
        first = max(self._end - 1, 0) if self._largest is None else self._end
        self._end += rows
        rows, each = self._end - first, each + _VALUE_BYTES
        least = _LEAST_VALUES if self._width else 0
        self._spans.append(_Span(first, rows, page.values, longest, content, largest, each, least))

    def widest(self, rows: int) -> int:
        """Return what the largest batch of so many rows takes in bytes."""
        windows: dict[int, int] = {}
        for span in self._spans:
            needed = span.needed(rows)
            for window in {span.first // rows, (span.first + max(span.rows, 1) - 1) // rows}:
                windows[window] = windows.get(window, 0) + needed
        return max(windows.values(), default=0)


def _page_bytes(page: Page) -> int:
    lengths = (
        page.values * 8 if page.encoding in (parquet_deltas.BYTES, parquet_deltas.LENGTHS) else 0
    )
    # Without compression, too: the file gives bytes, which Arrow copies.
    return page.size + lengths + page.packed


def cut_rows(columns: list[Column], rows: int) -> tuple[int, int]:
    """Return how many rows a batch may have, and how many bytes they take while they are read."""
    while rows > 1 and sum(column.widest(rows) for column in columns) > BATCH_BYTES:
        rows = max(rows // 4, 1)
    widest = [column.widest(rows) for column in columns]
    # Arrow puts one column after the other together, and then copies it.
    return rows, sum(widest) + max(widest, default=0)
