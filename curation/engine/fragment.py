"""Reading and writing fragments: aligned parts of a table, each a Parquet file or a few.

Fragment `f` of aligned tables holds the same rows in the same order, so a join between them is a zip.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from curation.engine.manifest import FileEntry, FragmentRecord
from curation.engine.store import Store
from curation.errors import StoreError

UNREADABLE = (pa.ArrowException, OSError)
T = TypeVar("T", int, str)
_REMEDY = "what is missing is computed anew, what is finished is found."


@dataclass(frozen=True)
class Fragment:
    """A committed part of a table; travels to workers by its addresses."""

    store: Store
    record: FragmentRecord

    @property
    def name(self) -> str:
        """Name of the fragment, the same in all tables aligned with it."""
        return self.record.name

    @property
    def rows(self) -> int:
        """Rows of the fragment."""
        return self.record.rows

    @property
    def content(self) -> str:
        """Digest of what the files hold."""
        return self.record.content

    def _open(self, entry: FileEntry) -> pq.ParquetFile:
        where = self.store.address(entry.path)
        try:
            file = pq.ParquetFile(
                self.store.absolute(entry.path),
                filesystem=self.store.fs,
                page_checksum_verification=True,
            )
        except FileNotFoundError as error:
            raise StoreError(
                f"{where} has vanished. Run the whole recipe again: {_REMEDY}"
            ) from error
        except UNREADABLE as error:
            raise self._damaged(entry, f"{where} cannot be read ({error})") from error
        if file.metadata.num_rows != entry.rows:
            found = file.metadata.num_rows
            raise self._damaged(entry, f"{where} holds {found} rows, its record says {entry.rows}")
        return file

    @contextmanager
    def _reading(
        self, entry: FileEntry, columns: list[str] | None = None
    ) -> Iterator[pq.ParquetFile]:
        """Open a file; what cannot be read of it then is told with its row group."""
        file = self._open(entry)
        try:
            yield file
        except UNREADABLE as error:
            where = f"{_unreadable_group(file, columns)} of {self.store.address(entry.path)}"
            raise self._damaged(entry, f"{where} cannot be read ({error})") from error

    def _damaged(self, entry: FileEntry, what: str) -> StoreError:
        return StoreError(
            f"{what}; it is part of fragment {self.name!r} in {self.record.table_dir}. Delete the "
            f"file {entry.path.rsplit('/', 1)[1]} and run the whole recipe again: {_REMEDY}"
        )

    def schema(self) -> pa.Schema | None:
        """Return the columns, from the first file alone; None where there is no file.

        Raises:
            StoreError: the file has vanished or is damaged.
        """
        files = self.record.files
        return self._open(files[0]).schema_arrow if files else None

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the whole fragment, or some columns of it.

        Raises:
            StoreError: a file has vanished or is damaged; the message names it and the row group.
        """
        names = None if columns is None else list(columns)
        parts = []
        for entry in self.record.files:
            with self._reading(entry, names) as file:
                parts.append(file.read(columns=names))
        return parts[0] if len(parts) == 1 else pa.concat_tables(parts)

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, `rows` at a time and a row group in memory.

        Raises:
            StoreError: as `read`, when the damage is reached.
        """
        names = None if columns is None else list(columns)
        for entry in self.record.files:
            with self._reading(entry, names) as file:
                yield from file.iter_batches(batch_size=rows, columns=names)

    def row_groups_with(self, column: str, values: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the row groups that by their statistics can hold one of the sorted values.

        Raises:
            StoreError: as `read`, when the damage is reached.
        """
        for entry in self.record.files:
            with self._reading(entry) as file:
                yield from _row_groups_with(file, column, values)

    def row_groups_between(self, column: str, first: T, last: T) -> Iterator[pa.Table]:
        """Yield the row groups that by their statistics can hold first ≤ `column` ≤ last.

        Raises:
            StoreError: as `read`, when the damage is reached.
        """
        for entry in self.record.files:
            with self._reading(entry) as file:
                yield from _row_groups_between(file, column, first, last)


def _row_groups_with(
    file: pq.ParquetFile, column: str, values: Sequence[str]
) -> Iterator[pa.Table]:
    place = file.schema_arrow.names.index(column)
    for number in range(file.metadata.num_row_groups):
        found = file.metadata.row_group(number).column(place).statistics
        unknown = found is None or not found.has_min_max
        first = 0 if unknown else bisect_left(values, found.min)
        if unknown or (first < len(values) and values[first] <= found.max):
            yield file.read_row_group(number)


def _unreadable_group(file: pq.ParquetFile, columns: list[str] | None) -> str:
    """Say which row group cannot be read. Batches run across row groups, so a failed one is sought."""
    groups = file.metadata.num_row_groups
    for number in range(groups):
        try:
            file.read_row_group(number, columns=columns)
        except UNREADABLE:
            return f"row group {number} (of {groups}, counted from 0)"
    return f"one of the {groups} row groups"


def _row_groups_between(file: pq.ParquetFile, column: str, first: T, last: T) -> Iterator[pa.Table]:
    place = file.schema_arrow.names.index(column)
    for number in range(file.metadata.num_row_groups):
        found = file.metadata.row_group(number).column(place).statistics
        unknown = found is None or not found.has_min_max
        if unknown or (found.min <= last and found.max >= first):
            yield file.read_row_group(number)


def stem_of(name: str) -> str:
    """Return the name of a fragment without the number of its part."""
    return name.rpartition("-")[0]


def group_by_stem(fragments: Iterable[Fragment]) -> dict[str, list[Fragment]]:
    """Return fragments by the stem of their names, in order."""
    found: dict[str, list[Fragment]] = {}
    for fragment in fragments:
        found.setdefault(stem_of(fragment.name), []).append(fragment)
    return found
