"""Lines of text files, read as a stream; overlong lines are truncated and never held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curation.media.files.compression import DAMAGE, compression_of, decompressed
from curation.media.files.limits import LINE_BYTES, LINES_OF_ROW, ROWS
from curation.media.files.location import FileSystemError
from curation.stages.ingest.formats.boundary import UnreadableError
from curation.stages.ingest.sources.source_file import SourceFile

BLOCK_BYTES = 1 << 20
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16, with which UTF-32 begins too."""
_SAMPLED_BYTES = 1024


def lines(file: SourceFile, limit: int = LINE_BYTES) -> Iterator[tuple[bytes, bool]]:
    r"""Yield each line with its line end, and whether it is complete.

    Lines end with `\n`, or with `\r` in a file whose first block has no `\n`. A line of more than
    `limit` bytes is truncated and has no end.

    Raises:
        UnreadableError: its compression is damaged, it expands too far, has too many lines, or is not
            in UTF-8.
        FileSystemError: the file system failed.
    """
    left = most = LINES_OF_ROW * (ROWS + (file.size or 0))
    with file.open() as raw:
        unfinished, overlong, end = b"", False, b""
        for block in _blocks(raw, file):
            if not end:
                _check_encoding(block, file)
                block = block.removeprefix(UTF8_MARK)
                end = b"\r" if b"\r" in block and b"\n" not in block else b"\n"
            *finished, rest = (unfinished + block).split(end)
            left -= len(finished)
            if left < 0:
                raise UnreadableError(
                    f"Source {file.source.name!r}: {file.display_name} has more than {most:,} "
                    "lines, too many for its size",
                    fix="Write it without empty lines",
                )
            for line in finished:
                is_complete = not overlong and len(line) <= limit
                yield (line + end, True) if is_complete else (line[:limit], False)
                overlong = False
            overlong = overlong or len(rest) > limit
            unfinished = rest[: limit if overlong else None]
        if unfinished:
            yield unfinished, not overlong


def _check_encoding(block: bytes, file: SourceFile) -> None:
    # Text in the Latin script has a NUL in every second byte.
    sample = block[:_SAMPLED_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    is_utf16 = len(sample) > 3 and not min(even, odd) and 2.2 * max(even, odd) >= len(sample)
    if block.startswith(UTF16_MARKS) or is_utf16:
        raise UnreadableError(
            f"Source {file.source.name!r}: {file.display_name} is encoded in UTF-16 or "
            "UTF-32; lists must be in UTF-8",
            fix="Convert it: iconv -f UTF-16 -t UTF-8",
        )


def _blocks(raw: Any, file: SourceFile) -> Iterator[bytes]:
    try:
        stream = decompressed(raw, compression_of(raw))
        while block := stream.read(BLOCK_BYTES):
            yield block
    except FileSystemError:
        raise
    except DAMAGE as error:
        raise UnreadableError(
            f"Source {file.source.name!r}: {file.display_name} is damaged ({error})",
            fix="Replace the file, or remove it from the source, and run again",
        ) from error
