"""Lines of text files, read as they stream by; a line too long is cut out, not kept in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from curation.errors import StoreError
from curation.stages.ingest.sources.source_file import SourceFile

BLOCK = 1 << 20
MAX_LINE = 4 << 20
WIDE = (b"\xff\xfe", b"\xfe\xff")
"""How a file in UTF-16 or UTF-32 may begin."""
_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd", "lz4": "lz4"}


def lines(given: SourceFile, limit: int = MAX_LINE) -> Iterator[tuple[bytes, bool]]:
    """Yield each line without its end, and whether it is whole; of an overlong one its beginning.

    Raises:
        StoreError: the file cannot be read, its compression is damaged, or it is not in UTF-8.
    """
    with given.open() as file:
        codec = _CODECS.get(given.name.rpartition(".")[2])
        stream = pa.CompressedInputStream(file, codec) if codec else file
        held, overlong, first = b"", False, True
        for block in _blocks(stream, given):
            if first and block.startswith(WIDE):
                raise StoreError(
                    f"Source {given.source.name!r}: {given.shown} begins as UTF-16 or UTF-32 does; "
                    "lists are read as UTF-8. Convert it: iconv -f UTF-16 -t UTF-8."
                )
            first = False
            *ended, rest = (held + block).split(b"\n")
            for line in ended:
                yield line[:limit].removesuffix(b"\r"), not overlong and len(line) <= limit
                overlong = False
            overlong = overlong or len(rest) > limit
            held = rest[: limit if overlong else None]
        if held:
            yield held, not overlong


def _blocks(stream: pa.NativeFile, given: SourceFile) -> Iterator[bytes]:
    while True:
        try:
            block = stream.read(BLOCK)
        except OSError as error:
            raise StoreError(
                f"Source {given.source.name!r}: {given.shown} is damaged ({error}). Replace the "
                "file, or take it out of the source, and run again."
            ) from error
        if not block:
            return
        yield block
