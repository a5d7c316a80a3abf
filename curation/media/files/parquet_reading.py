"""Reading Parquet in bounded memory: how many rows at a time, and which row groups not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.files.limits import (
    BATCH_BYTES,
    EXPANSION_BYTES,
    EXPANSION_RATIO,
    MIB,
    PARQUET_BYTES,
    PARQUET_FOOTER_BYTES,
    PARQUET_FOOTER_STRUCTS,
    PARQUET_LEAST_PAGE_BYTES,
    PARQUET_PAGES,
    PARQUET_REREAD_RATIO,
)
from curation.media.files.location import FileSystemError, check_file_system, held_bytes
from curation.media.files.parquet_footer import TooLargeError, read_footer
from curation.media.files.parquet_images import leaf_depths
from curation.media.files.parquet_levels import Rows, rows_of
from curation.media.files.parquet_memory import Column, cut_rows
from curation.media.files.parquet_names import check_names
from curation.media.files.parquet_pages import (
    Budget,
    Budgets,
    Page,
    largest_value,
    read_chunk,
    unpacked,
)
from curation.media.files.thrift import ThriftError

_READ_AHEAD_BYTES = MIB
_LEAST_READ_AHEAD_BYTES = 1 << 14

_NESTED_BYTES = 4
"""What a value of a column with lists counts for besides its page, in bytes."""
_USUAL_DEPTH, _DEEP_BYTES = 8, 64
"""Lists and structs around a value, and what each one more counts for, in bytes."""


class Unread(NamedTuple):
    """A row group that is not read.

    Attributes:
        start: number of its first row in the file.
        rows: number of its rows, as the file says.
        problem: why.
        is_damaged: whether it is damaged; otherwise it is too large.
    """

    start: int
    rows: int
    problem: str
    is_damaged: bool


class Batch(NamedTuple):
    """Rows of a file.

    Attributes:
        start: number of the first in the file.
        rows: their columns.
    """

    start: int
    rows: pa.RecordBatch


class BoundedParquet:
    """A Parquet file that is read in bounded memory, whatever it holds.

    Args:
        stream: open for random access.

    Raises:
        ValueError: its footer exceeds the limits, or is damaged.
        OSError: Arrow cannot read it.
        FileSystemError: the file system failed.

    Attributes:
        file: the file.
        group_starts: number of the first row of each row group, and of all rows.
        most_bytes: that its pages may expand to.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._footer = read_footer(stream)
        size = held_bytes(stream, self._footer.size)
        self._headers = Budget(
            PARQUET_PAGES + PARQUET_REREAD_RATIO * (size // PARQUET_LEAST_PAGE_BYTES),
            "its row groups name more pages than a file of its size has",
        )
        self.most_bytes = EXPANSION_BYTES + EXPANSION_RATIO * size
        share = 64 * MIB // max(self._footer.columns, 1)
        try:
            self.file = pq.ParquetFile(
                stream,
                buffer_size=max(min(share, _READ_AHEAD_BYTES), _LEAST_READ_AHEAD_BYTES),
                thrift_string_size_limit=PARQUET_FOOTER_BYTES,
                thrift_container_size_limit=PARQUET_FOOTER_STRUCTS,
            )
        except OSError:
            check_file_system(stream)
            raise
        check_names(self.file.schema_arrow)
        self._depths = leaf_depths(self.file.schema_arrow)
        self.group_starts = [0]
        for group in range(self.file.num_row_groups):
            rows = self.file.metadata.row_group(group).num_rows
            if rows < 0:
                raise ThriftError("a row group has a negative number of rows")
            self.group_starts.append(self.group_starts[-1] + rows)

    def has_no_nulls(self, leaf: int) -> bool:
        """Whether the file says of a Parquet column that none of its values is null."""
        return all(nulls[leaf] == 0 for nulls in self._footer.nulls)

    def batches(
        self, leaves: Iterable[int], rows: int, groups: Iterable[int] | None = None
    ) -> Iterator[Batch | Unread]:
        """Yield the rows of some Parquet columns; of a row group that cannot be read, why.

        Args:
            leaves: numbers of the Parquet columns.
            rows: of a batch, at most.
            groups: numbers of the row groups; None for all.

        Raises:
            FileSystemError: the file system failed.
        """
        leaves = sorted(leaves)
        most = self.most_bytes
        unpacked = Budget(
            most, f"its pages expand to more than {most:,} bytes, too many for its size"
        )
        budgets = Budgets(self._headers, unpacked)
        for group in range(self.file.num_row_groups) if groups is None else groups:
            yield from self._group(group, leaves, rows, budgets)

    def _group(
        self, group: int, leaves: list[int], rows: int, budgets: Budgets
    ) -> Iterator[Batch | Unread]:
        start, end = self.group_starts[group : group + 2]
        at = start
        try:
            rows = self._rows_at_once(group, leaves, rows, budgets)
            # The public method knows columns by their names only.
            for batch in self.file.reader.iter_batches(
                rows, row_groups=[group], column_indices=leaves
            ):
                read = Batch(at, batch)
                at += batch.num_rows
                del batch
                yield read
                del read
        except FileSystemError:
            raise
        except TooLargeError as error:
            yield Unread(at, end - at, f"row group {group}: {error}", False)
        except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
            check_file_system(self._stream)
            yield Unread(at, end - at, f"row group {group} cannot be read: {error}", True)
        else:
            if at < end:
                yield Unread(
                    at, end - at, f"row group {group} ends after {at - start:,} rows", True
                )

    def _rows_at_once(self, group: int, leaves: list[int], rows: int, budgets: Budgets) -> int:
        """Return how many rows of a group a batch may have.

        Raises:
            TooLargeError: one is too many.
        """
        held, columns = 0, list[Column]()
        for leaf in leaves:
            column = self._column(group, leaf, budgets)
            columns.append(column)
            held += column.held
            if held > PARQUET_BYTES:
                raise TooLargeError(_too_large(held))
        cut, needed = cut_rows(columns, rows)
        if held + needed > PARQUET_BYTES:
            for column in columns:
                column.look_at_values()
            cut, needed = cut_rows(columns, rows)
        if held + needed > PARQUET_BYTES:
            raise TooLargeError(_too_large(held + needed))
        return cut

    def _column(self, group: int, leaf: int, budgets: Budgets) -> Column:
        chunk_of = self.file.metadata.row_group(group).column(leaf)
        node = self.file.schema.column(leaf)
        levels = (node.max_repetition_level, node.max_definition_level)
        chunk = read_chunk(self._stream, chunk_of, levels, budgets)
        # The levels of a billion values are a few bytes.
        deep = max(self._depths[leaf] - _USUAL_DEPTH, 0) * _DEEP_BYTES
        each = deep + (_NESTED_BYTES if node.max_repetition_level else 0)
        budgets.unpacked.take(each * sum(page.values for page in chunk.pages))
        width = max(node.length, 0) if node.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
        largest = partial(largest_value, self._stream, chunk_of, levels)
        column = Column(chunk, width, None if node.max_repetition_level else largest)
        if node.max_repetition_level and column.total > BATCH_BYTES:
            bits = node.max_repetition_level.bit_length()
            column.set_rows(list(self._rows_of_pages(chunk.pages, chunk_of, bits)))
        return column

    def _rows_of_pages(
        self, pages: list[Page], chunk_of: pq.ColumnChunkMetaData, bits: int
    ) -> Iterator[Rows]:
        """Yield how many rows begin in each page, and how long they are, by the repetition levels."""
        row = 0
        for page in pages:
            if page.levels is not None:
                self._stream.seek(page.at)
                levels = bytes(self._stream.read(page.levels[0]))
            else:
                content = unpacked(self._stream, chunk_of, page.at, page.packed, page.size)
                levels = content[4 : 4 + int.from_bytes(content[:4], "little")]
                del content
            rows = rows_of(levels, page.values, bits, row)
            row = rows.open
            yield rows


def _too_large(needed: int) -> str:
    return (
        f"it takes {needed // MIB:,} MiB of memory to read, more than {PARQUET_BYTES // MIB}. Write "
        "the file with smaller row groups, pages or dictionaries"
    )
