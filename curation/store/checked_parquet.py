"""The footers of Parquet files, which are checked before Arrow reads them.

Arrow checks the pages of a file by their checksums, and its footer by nothing. A damaged one would give
other columns, leave out row groups by wrong statistics, or end the process.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.store.manifest import FileEntry
from curation.store.small_files import open_source
from curation.store.storage.base import Storage, open_content

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

END_BYTES = 8
"""Bytes at the end of a file: the length of the footer in four bytes, and `PAR1`."""
DIGITS = 16
_READ_BYTES = 64 * 2**10
"""Bytes that are read at once from the end of a file, in which most footers are."""


def footer_digest(end: bytes) -> str:
    """Return the first digits of the SHA-256 of a footer.

    Args:
        end: bytes from the end of the file, of which the footer is a part.

    Raises:
        ValueError: they hold no whole footer.
    """
    size = _footer_bytes(end)
    if size > len(end):
        raise ValueError(f"the footer has {size:,} bytes, and {len(end):,} are there")
    return sha256(end[-size:]).hexdigest()[:DIGITS]


def open_parquet(storage: Storage, entry: FileEntry) -> pq.ParquetFile:
    """Open a file whose footer is the one that was written.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        pa.ArrowInvalid: it has another size, another footer or other rows than its entry says.
    """
    source = open_source(storage, entry)
    metadata = pq.read_metadata(open_content(_checked_end(source, entry)))
    if metadata.num_rows != entry.rows:
        problem = f"it has {metadata.num_rows:,} rows, and its record says {entry.rows:,}"
        raise pa.ArrowInvalid(problem)
    return pq.ParquetFile(source, metadata=metadata, page_checksum_verification=True)


def _checked_end(source: Any, entry: FileEntry) -> bytes:
    """Return the footer of a file with what follows it."""
    size = source.size()
    if size != entry.size:
        raise pa.ArrowInvalid(f"it has {size:,} bytes, and its record says {entry.size:,}")
    end = source.read_at(min(size, _READ_BYTES), max(size - _READ_BYTES, 0))
    needed = _footer_bytes(end)
    if len(end) < needed <= size:
        end = source.read_at(needed, size - needed)
    if needed > size or (entry.footer and footer_digest(end) != entry.footer):
        raise pa.ArrowInvalid("its footer is not the one that its record says")
    return bytes(end[-needed:])


def _footer_bytes(end: bytes) -> int:
    """Return the bytes of a footer with what follows it, by the end of its file."""
    return int.from_bytes(end[-END_BYTES:-4], "little") + END_BYTES
