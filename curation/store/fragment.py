"""Reading fragments: aligned parts of a table, each one Parquet file or several.

A fragment of one name holds the same rows in the same order in all aligned tables, so that a join
between them is a zip.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import DamagedFileError, StoreError
from curation.store.access import RETRY, is_out_of_reach, set_aside_fix
from curation.store.checked_parquet import open_parquet
from curation.store.checksums import sha256_of
from curation.store.manifest import FileEntry, FragmentRecord
from curation.store.store import Store
from curation.store.withheld import Withheld

UNREADABLE = (pa.ArrowException, OSError)
T = TypeVar("T", int, str)
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)
_REMEDY = "it computes what is missing and reuses what is finished."


@dataclass(frozen=True)
class Fragment:
    """A committed part of a table. Workers get the record, and read the files themselves.

    Attributes:
        store: where it is.
        record: its files.
        withheld: rows that no reader gets, because they were taken down; None for none.
    """

    store: Store
    record: FragmentRecord
    withheld: Withheld | None = None

    @property
    def name(self) -> str:
        """Name of the fragment, the same in all aligned tables."""
        return self.record.name

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.record.rows

    @property
    def content(self) -> str:
        """Digest of the content of the files."""
        return self.record.content

    @property
    def stats(self) -> Mapping[str, Any]:
        """The measurements of the function that wrote it."""
        return self.record.stats

    def without_measurements(self) -> Fragment:
        """Return the fragment with no more than its rows and its content need: it is small to send."""
        stats = {k: v for k, v in self.record.stats.items() if k == "origin"}
        record = replace(self.record, counts={}, stats=stats, libraries={})
        return replace(self, record=record)

    def _open(self, entry: FileEntry) -> pq.ParquetFile:
        address = self.store.address(entry.path)
        try:
            file = open_parquet(self.store.storage, entry)
        except FileNotFoundError as error:
            raise DamagedFileError(
                f"{address} has vanished",
                path=entry.path,
                sha256=entry.sha256,
                fix=f"Run the whole recipe again: {_REMEDY}",
            ) from error
        except Exception as error:
            self._raise_unless_damaged(entry, error)
            raise self._damaged(entry, f"{address} cannot be read ({error})") from error
        return file

    @contextmanager
    def _open_for_reading(
        self, entry: FileEntry, columns: list[str] | None = None
    ) -> Iterator[pq.ParquetFile]:
        """Open a file. If reading from it fails, the error names the row group."""
        file = self._open(entry)
        try:
            yield file
        except Exception as error:
            self._raise_unless_damaged(entry, error)
            place = f"{_unreadable_group(file, columns)} of {self.store.address(entry.path)}"
            raise self._damaged(entry, f"{place} cannot be read ({error})") from error

    def _raise_unless_damaged(self, entry: FileEntry, error: Exception) -> None:
        """Raise an error of reading a file if the bytes of the file need not be the cause.

        Raises:
            StoreError: nobody can read the bytes now.
        """
        # A damaged footer may name other columns and types, so that any error may follow.
        try:
            is_whole = sha256_of(self.store.storage, entry.path) == entry.sha256
        except OSError as problem:
            if not is_out_of_reach(self.store.storage, problem):
                return
            address = self.store.address(entry.path)
            raise StoreError(f"{address} cannot be read ({problem})", fix=RETRY) from error
        if is_whole and not isinstance(error, UNREADABLE):
            raise error
        if is_whole and isinstance(error, OSError) and is_out_of_reach(self.store.storage, error):
            raise StoreError(
                f"{self.store.address(entry.path)} could not be read ({error}), but it is whole",
                fix="Run the same command again",
            ) from error

    def _damaged(self, entry: FileEntry, problem: str) -> StoreError:
        return DamagedFileError(
            f"{problem}; it is in fragment {self.name!r} of {self.record.table_dir}",
            path=entry.path,
            sha256=entry.sha256,
            fix=_set_aside_fix(self.store),
        )

    def check(self) -> None:
        """Check the sizes and the footers of the files; their pages are checked where they are read.

        Raises:
            StoreError: a file has vanished or is damaged.
        """
        for entry in self.record.files:
            self._open(entry).close()

    def schema(self) -> pa.Schema | None:
        """Return the schema of the first file, or None if the fragment has no file.

        The metadata of its fields is text.

        Raises:
            StoreError: the file has vanished or is damaged.
        """
        if not self.record.files:
            return None
        with self._open_for_reading(self.record.files[0]) as file:
            schema = file.schema_arrow
            for field in schema:
                for text in (field.metadata or {}).values():
                    text.decode()
        return schema

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, with all columns or the named ones.

        Raises:
            StoreError: a file has vanished or is damaged; the message names it and the row group.
        """
        names = None if columns is None else list(columns)
        tables = []
        for entry in self.record.files:
            with self._open_for_reading(entry, names) as file:
                with_ids = self._with_ids(entry, names, file)
                tables.append(self._kept(entry, file.read(columns=with_ids), names))
        return concatenated(tables, self.store, self.record.table_dir)

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most `rows` at a time; one row group is in memory.

        Raises:
            StoreError: as `read`, once the damaged place is reached.
        """
        names = None if columns is None else list(columns)
        for entry in self.record.files:
            with self._open_for_reading(entry, names) as file:
                with_ids = self._with_ids(entry, names, file)
                for batch in file.iter_batches(batch_size=rows, columns=with_ids):
                    yield self._kept(entry, batch, names)

    def row_groups_with(self, column: str, values: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the row groups whose statistics allow one of some values.

        Args:
            column: the column with the values.
            values: sorted.

        Raises:
            StoreError: as `read`, once the damaged place is reached.
        """
        for entry in self.record.files:
            with self._open_for_reading(entry) as file:
                for table in _row_groups_with(file, column, values):
                    yield self._kept(entry, table, None)

    def row_groups_between(
        self, column: str, first: T, last: T, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the row groups whose statistics allow first ≤ `column` ≤ last.

        Args:
            column: the column.
            first: its least value.
            last: its largest value.
            columns: those to read; None reads all.

        Raises:
            StoreError: as `read`, once the damaged place is reached.
        """
        for entry in self.record.files:
            with self._open_for_reading(entry) as file:
                names = None if columns is None else list(columns)
                with_ids = self._with_ids(entry, names, file)
                for number, span in _spans(file, column):
                    if span is None or (span[0] <= last and span[1] >= first):
                        yield self._kept(entry, file.read_row_group(number, with_ids), names)

    def _with_ids(
        self, entry: FileEntry, names: list[str] | None, file: pq.ParquetFile
    ) -> list[str] | None:
        if self.withheld is None or names is None:
            return names
        return self.withheld.with_ids(entry.path, names, file.schema_arrow)

    def _kept(self, entry: FileEntry, rows: Rows, names: list[str] | None) -> Rows:
        return rows if self.withheld is None else self.withheld.drop(entry.path, rows, names)


def concatenated(tables: Sequence[pa.Table], store: Store, name: str) -> pa.Table:
    """Return the rows of files of one table, one after the other.

    Raises:
        StoreError: they have different columns.
    """
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"The files of {name} in {store.uri} have different columns, so one is that of another "
            "table",
            fix=_set_aside_fix(store),
        ) from error


def _set_aside_fix(store: Store) -> str:
    return set_aside_fix(store.uri, f"run the whole recipe again: {_REMEDY}")


def _row_groups_with(
    file: pq.ParquetFile, column: str, values: Sequence[str]
) -> Iterator[pa.Table]:
    for number, span in _spans(file, column):
        if span is None:
            yield file.read_row_group(number)
            continue
        first = bisect_left(values, span[0])
        if first < len(values) and values[first] <= span[1]:
            yield file.read_row_group(number)


def _spans(file: pq.ParquetFile, column: str) -> Iterator[tuple[int, tuple[Any, Any] | None]]:
    """Yield each row group's number with the least and largest value of a column; None if unknown."""
    index = file.schema_arrow.names.index(column)
    for number in range(file.metadata.num_row_groups):
        statistics = file.metadata.row_group(number).column(index).statistics
        known = statistics is not None and statistics.has_min_max
        yield number, (statistics.min, statistics.max) if known else None


def _unreadable_group(file: pq.ParquetFile, columns: list[str] | None) -> str:
    """Return which row group cannot be read: batches cross row groups, so each is tried."""
    groups = file.metadata.num_row_groups
    for number in range(groups):
        try:
            file.read_row_group(number, columns=columns)
        except Exception:
            return f"row group {number} (of {groups}, counted from 0)"
    return f"one of the {groups} row groups"


def stem_of(name: str) -> str:
    """Return the name of a fragment without the number at its end: `web` for `web-00003`."""
    return name.rpartition("-")[0]


def group_by_stem(fragments: Iterable[Fragment]) -> dict[str, list[Fragment]]:
    """Return fragments by the stem of their names, in order."""
    groups: dict[str, list[Fragment]] = {}
    for fragment in fragments:
        groups.setdefault(stem_of(fragment.name), []).append(fragment)
    return groups
