"""Writing fragments: Parquet files whose rows are checked against a contract."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.engine.contract import Contract
from curation.engine.libraries import library_versions
from curation.store.checked_parquet import footer_digest
from curation.store.manifest import FileEntry, FragmentRecord, RowCounts, count_rows, sum_counts
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

ROW_GROUP_BYTES = 64 * 2**20
"""Bytes from which a row group is written: a reader holds one in memory."""
ROW_GROUP_ROWS = 65_536
"""Rows from which a row group is written."""
UNCOMPRESSED_COLUMNS = ("image", "vector", "phash")
"""Columns whose bytes compression does not make smaller."""
UNIQUE_COLUMNS = ("pair_id", "image_id")
"""Columns whose values hardly repeat, so that a dictionary would only take space."""


class _HashingSink(io.RawIOBase):
    """A stream that counts and hashes the bytes that it writes to another.

    Attributes:
        size: number of bytes so far.
        sha256: hash of them.
        end: the bytes since it was set; None where they are not kept.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.end: bytearray | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        self.size += len(data)
        if self.end is not None:
            self.end += data
        self._stream.write(data)
        return len(data)


class FragmentWriter:
    """Writes the batches of one fragment, each checked against the contract of its table.

    Nothing reads the files until their completion record is put, so a crash leaves at most files
    without a record. Their names are unique: a second attempt never overwrites the first.

    Args:
        store: where the files go.
        folder: folder of the store.
        name: name of the fragment.
        contract: the contract of the table; None for a work table, which has none.
        rows_per_file: rows of a file, if they are limited.
        batch_groups: each batch becomes one row group.
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
        self._counts: list[RowCounts] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self._sink: _HashingSink | None = None
        self._output = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._path, self._rows = "", 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch. It is written when its row group is full.

        Raises:
            ContractError: the batch breaks the contract.
        """
        if self._contract:
            batch = self._contract.conform(batch)
        self._counts.append(count_rows(batch))
        while self._limit and self._rows + self._pending_rows + batch.num_rows > self._limit:
            rows_left = self._limit - self._rows - self._pending_rows
            self._add(batch.slice(0, rows_left))
            batch = batch.slice(rows_left)
            self._finish_file()
        self._add(batch)

    def _add(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self._pending_bytes += batch.nbytes
        full = self._pending_bytes >= ROW_GROUP_BYTES or self._pending_rows >= ROW_GROUP_ROWS
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
        stream = self._output.enter_context(self._store.storage.open_output(self._path))
        self._sink = _HashingSink(stream)
        leaves = list(_leaves(schema))
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression={n: "none" if n in UNCOMPRESSED_COLUMNS else "zstd" for n in leaves},
            use_dictionary=[n for n in leaves if n not in (*UNCOMPRESSED_COLUMNS, *UNIQUE_COLUMNS)],
            # Without it, damaged bytes of an uncompressed column would be read without an error.
            write_page_checksum=True,
        )

    def _finish_file(self) -> None:
        self._flush()
        if self._writer is None or self._sink is None:
            return
        # Closing writes the footer.
        self._sink.end = bytearray()
        self._writer.close()
        self._output.close()
        footer = footer_digest(bytes(self._sink.end))
        sha256 = self._sink.sha256.hexdigest()
        self._files.append(FileEntry(self._path, self._sink.size, sha256, self._rows, footer))
        self._writer, self._sink, self._rows = None, None, 0

    def close(self, table_dir: str, memo: str, stats: dict[str, Any]) -> FragmentRecord:
        """Finish the files and return the record of the fragment. The caller puts it into the store."""
        self._finish_file()
        return FragmentRecord(
            table_dir,
            self._name,
            memo,
            tuple(self._files),
            sum_counts(self._counts),
            stats,
            library_versions(),
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
