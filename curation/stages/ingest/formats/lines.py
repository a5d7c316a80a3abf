"""Lines of text files, read as a stream; overlong lines are truncated and never held in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from curation.errors import StoreError
from curation.stages.ingest.sources.source_file import SourceFile

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 4 << 20
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16, with which UTF-32 begins too."""
_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4"}


def lines(file: SourceFile, limit: int = MAX_LINE_BYTES) -> Iterator[tuple[bytes, bool]]:
    """Yield each line without its line end, and whether it is complete.

    A line of more than `limit` bytes is truncated.

    Raises:
        StoreError: the file cannot be read, its compression is damaged, or it is not in UTF-8.
    """
    with file.open() as raw:
        codec = _CODECS.get(file.name.rpartition(".")[2])
        stream = pa.CompressedInputStream(raw, codec) if codec else raw
        unfinished, overlong, is_first = b"", False, True
        for block in _blocks(stream, file):
            if is_first and block.startswith(UTF16_MARKS):
                raise StoreError(
                    f"Source {file.source.name!r}: {file.display_name} is encoded in UTF-16 or UTF-32; "
                    "lists must be in UTF-8. Convert it: iconv -f UTF-16 -t UTF-8."
                )
            is_first = False
            *finished, rest = (unfinished + block).split(b"\n")
            for line in finished:
                yield line[:limit].removesuffix(b"\r"), not overlong and len(line) <= limit
                overlong = False
            overlong = overlong or len(rest) > limit
            unfinished = rest[: limit if overlong else None]
        if unfinished:
            yield unfinished, not overlong


def _blocks(stream: pa.NativeFile, file: SourceFile) -> Iterator[bytes]:
    while True:
        try:
            block = stream.read(BLOCK_BYTES)
        except OSError as error:
            raise StoreError(
                f"Source {file.source.name!r}: {file.display_name} is damaged ({error}). Replace the "
                "file, or remove it from the source, and run again."
            ) from error
        if not block:
            return
        yield block
