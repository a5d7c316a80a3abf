"""Reading and writing fragments: aligned parts of a table, each a Parquet file or a few.

Fragment `f` of aligned tables holds the same rows in the same order, so a join between them is a zip.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import StoreError
from curation.records import Books, FileEntry, Manifest, Record, add_books, count_rows
from curation.store import Store
from curation.table import Contract, contract

# A row group is what a reader holds in memory at once.
GROUP_BYTES = 64 * 2**20
GROUP_ROWS = 65_536
RAW_COLUMNS = ("image", "vector", "phash")
UNREADABLE = (pa.ArrowException, OSError)
T = TypeVar("T", int, str)
_REMEDY = "what is missing is computed anew, what is finished is found."


@dataclass(frozen=True)
class Fragment:
    """A committed part of a table; travels to workers by its addresses."""

    store: Store
    record: Record

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

    def holding(self, column: str, values: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the row groups that by their statistics can hold one of the sorted values.

        Raises:
            StoreError: as `read`, when the damage is reached.
        """
        for entry in self.record.files:
            with self._reading(entry) as file:
                yield from _groups_holding(file, column, values)

    def between(self, column: str, first: T, last: T) -> Iterator[pa.Table]:
        """Yield the row groups that by their statistics can hold first ≤ `column` ≤ last.

        Raises:
            StoreError: as `read`, when the damage is reached.
        """
        for entry in self.record.files:
            with self._reading(entry) as file:
                yield from _groups_between(file, column, first, last)


def _groups_holding(file: pq.ParquetFile, column: str, values: Sequence[str]) -> Iterator[pa.Table]:
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


def _groups_between(file: pq.ParquetFile, column: str, first: T, last: T) -> Iterator[pa.Table]:
    place = file.schema_arrow.names.index(column)
    for number in range(file.metadata.num_row_groups):
        found = file.metadata.row_group(number).column(place).statistics
        unknown = found is None or not found.has_min_max
        if unknown or (found.min <= last and found.max >= first):
            yield file.read_row_group(number)


def stem_of(name: str) -> str:
    """Return the name of a fragment without the number of its part."""
    return name.rpartition("-")[0]


def by_stem(fragments: Iterable[Fragment]) -> dict[str, list[Fragment]]:
    """Return fragments by the stem of their names, in order."""
    found: dict[str, list[Fragment]] = {}
    for fragment in fragments:
        found.setdefault(stem_of(fragment.name), []).append(fragment)
    return found


@dataclass(frozen=True)
class Table:
    """A committed table version."""

    store: Store
    manifest: Manifest

    @property
    def fragments(self) -> dict[str, Fragment]:
        """The fragments by name, in order."""
        return {r.name: Fragment(self.store, r) for r in self.manifest.fragments}

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.manifest.rows

    @property
    def content(self) -> str:
        """Digest of what the table holds."""
        return self.manifest.content

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the whole table, or some columns of it."""
        parts = [f.read(columns) for f in self.fragments.values()]
        if not parts:
            empty = contract(self.manifest.table).arrow_schema().empty_table()
            return empty if columns is None else empty.select(list(columns))
        return pa.concat_tables(parts)

    def paths(self) -> list[str]:
        """Return the addresses of the committed Parquet files."""
        return [self.store.address(f.path) for r in self.manifest.fragments for f in r.files]


def open_table(store: Store, name: str, version: str | None = None) -> Table:
    """Return a committed table.

    Raises:
        StoreError: it has no committed version; the message lists the tables that have.
    """
    manifest = store.manifest(name, version)
    if manifest is None:
        found = ", ".join(store.tables()) or "none yet"
        raise StoreError(
            f"The store {store.uri} has no committed table {name!r}. Committed: {found}. "
            "Run the stage that writes it (curation plan RECIPE shows which)."
        )
    return Table(store, manifest)


class _HashingSink(io.RawIOBase):
    """A stream that counts and hashes what it passes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.size += len(data)
        self._stream.write(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class FragmentWriter:
    """Writes the batches of one fragment, each checked against the contract of its table.

    With `batch_groups` each batch is a row group of its own.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        name: str,
        contract: Contract | None,
        rows_per_file: int | None = None,
        batch_groups: bool = False,
    ) -> None:
        self._store, self._folder, self._name = store, folder, name
        self._contract, self._limit = contract, rows_per_file
        self._batch_groups = batch_groups
        self._files: list[FileEntry] = []
        self._books: list[Books] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self._sink: _HashingSink | None = None
        self._writer: pq.ParquetWriter | None = None
        self._path, self._rows = "", 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch; it reaches the disk with its row group."""
        if self._contract:
            batch = self._contract.conform(batch)
        self._books.append(count_rows(batch))
        while self._limit and self._rows + self._pending_rows + batch.num_rows > self._limit:
            room = self._limit - self._rows - self._pending_rows
            self._take(batch.slice(0, room))
            batch = batch.slice(room)
            self._finish_file()
        self._take(batch)

    def _take(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        full = self._pending_bytes >= GROUP_BYTES or self._pending_rows >= GROUP_ROWS
        if full or self._batch_groups:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending)
        if self._writer is None:
            self._open(table.schema)
        assert self._writer is not None
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        self._rows += table.num_rows
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def _open(self, schema: pa.Schema) -> None:
        self._path = f"{self._folder}/{self._name}.{uuid.uuid4().hex[:12]}.parquet"
        self._store.fs.create_dir(self._store.absolute(self._folder), recursive=True)
        self._sink = _HashingSink(
            self._store.fs.open_output_stream(self._store.absolute(self._path))
        )
        leaves = list(_leaves(schema))
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            # Pictures and vectors do not shrink, and identities never repeat.
            compression={n: "none" if n in RAW_COLUMNS else "zstd" for n in leaves},
            use_dictionary=[n for n in leaves if n not in (*RAW_COLUMNS, "pair_id", "image_id")],
            # Bytes that are not compressed would else be read as they are, however damaged.
            write_page_checksum=True,
        )

    def _finish_file(self) -> None:
        self._flush()
        if self._writer is None or self._sink is None:
            return
        self._writer.close()
        self._sink.close()
        self._files.append(
            FileEntry(self._path, self._sink.size, self._sink.sha256.hexdigest(), self._rows)
        )
        self._writer, self._sink, self._rows = None, None, 0

    def close(self, table_dir: str, memo: str, stats: dict[str, Any]) -> Record:
        """Finish the files and return the record, not yet put."""
        self._finish_file()
        return Record(
            table_dir, self._name, memo, tuple(self._files), add_books(self._books), stats
        )


def _leaves(fields: Iterable[pa.Field], prefix: str = "") -> Iterator[str]:
    """Yield the Parquet paths of the leaf columns."""
    for field in fields:
        path = f"{prefix}{field.name}"
        if pa.types.is_struct(field.type):
            yield from _leaves(field.type, f"{path}.")
        elif pa.types.is_list(field.type):
            yield from _leaves([field.type.value_field.with_name("element")], f"{path}.list.")
        else:
            yield path
