"""Lines of text files, read as a stream; overlong lines are truncated and never held in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TypeVar

from curation.media.files.compression import (
    DAMAGE,
    ExpansionError,
    compression_of,
    decompressed,
)
from curation.media.files.limits import ENDLESS_BYTES, LINE_BYTES, LINES_OF_ROW, ROWS
from curation.media.files.location import FileSystemError, HolesError
from curation.media.files.no_text import no_text
from curation.stages.ingest.formats.boundary import UnreadableError, unreadable
from curation.stages.ingest.sources.source_file import SourceFile

BLOCK_BYTES = 1 << 20
UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16, with which UTF-32 begins too."""
_SAMPLED_BYTES = 1024
_SMALLER_READS = (4096, 1)
T = TypeVar("T")


def lines(file: SourceFile, limit: int = LINE_BYTES) -> Iterator[tuple[bytes, bool]]:
    r"""Yield each line with its line end, and whether it is complete.

    Lines end with `\n`, or with `\r` in a file whose first block has no `\n`. A line of more than
    `limit` bytes is truncated and has no end.

    Raises:
        UnreadableError: its compression is damaged, it expands too far, has too many lines or a line
            of more than `ENDLESS_BYTES`, or is not in UTF-8.
        FileSystemError: the file system failed.
    """
    left = most = LINES_OF_ROW * (ROWS + file.held_bytes)
    unfinished, overlong, end, skipped = b"", False, b"", 0
    for block in _blocks(file):
        if not end:
            _check_is_text(block, file)
            block = block.removeprefix(UTF8_MARK)
            end = b"\r" if b"\r" in block and b"\n" not in block else b"\n"
        *finished, rest = (unfinished + block).split(end)
        left -= len(finished)
        if left < 0:
            raise unreadable(
                file,
                f"has more than {most:,} lines, too many for its size",
                "Write it without empty lines",
            )
        for line in finished:
            is_complete = not overlong and len(line) <= limit
            yield (line + end, True) if is_complete else (line[:limit], False)
            overlong, skipped = False, 0
        overlong = overlong or len(rest) > limit
        skipped += len(block)
        if skipped > ENDLESS_BYTES:
            raise UnreadableError(
                f"Source {file.source.name!r}: {file.display_name} has a line of more than "
                f"{ENDLESS_BYTES:,} bytes: it is no list, or its download was not finished",
                fix="Replace the file, or remove it from the source, and run again",
            )
        unfinished = rest[: limit if overlong else None]
    if unfinished:
        yield unfinished, not overlong


def look_ahead(items: Iterator[T], is_enough: Callable[[T], bool]) -> tuple[list[T], Iterator[T]]:
    """Return the first items, and all items: of a damaged file, those before the damage come first.

    Args:
        items: the items.
        is_enough: whether an item is the last that is looked at.
    """
    first, damage = list[T](), None
    try:
        for item in items:
            first.append(item)
            if is_enough(item):
                break
    except UnreadableError as error:
        damage = error
    return first, _resumed(first, items, damage)


def _resumed(first: list[T], rest: Iterator[T], damage: UnreadableError | None) -> Iterator[T]:
    yield from first
    if damage is not None:
        raise damage
    yield from rest


def _check_is_text(block: bytes, file: SourceFile) -> None:
    # Text in the Latin script has a NUL in every second byte.
    sample = block[:_SAMPLED_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    is_utf16 = len(sample) > 3 and not min(even, odd) and 2.2 * max(even, odd) >= len(sample)
    if block.startswith(UTF16_MARKS) or is_utf16:
        problem, fix = (
            "is encoded in UTF-16 or UTF-32; lists must be in UTF-8",
            "Convert it: iconv -f UTF-16 -t UTF-8",
        )
    elif kind := no_text(sample):
        problem, fix = kind
    elif compression_of(io.BytesIO(sample)):
        problem, fix = "is compressed twice", "Decompress it once"
    else:
        return
    raise unreadable(file, problem, fix)


def _blocks(file: SourceFile) -> Iterator[bytes]:
    position = 0
    try:
        with file.open() as raw:
            codec = compression_of(raw)
            # Holes of a plain list are one line, which has a limit of its own.
            stream = decompressed(raw, codec) if codec else raw
            while block := stream.read(BLOCK_BYTES):
                position += len(block)
                yield block
    except FileSystemError:
        raise
    except DAMAGE as error:
        if not isinstance(error, ExpansionError | HolesError):
            yield from _before_damage(file, position)
        raise unreadable(file, f"is damaged ({error})") from error


def _before_damage(file: SourceFile, position: int) -> Iterator[bytes]:
    """Yield what stands before the damage of a compressed file: damage fails a whole read.

    Args:
        file: the file.
        position: how much of its content was read, in bytes.

    Raises:
        FileSystemError: the file system failed.
    """
    rest = bytearray()
    for size in _SMALLER_READS:
        try:
            with file.open() as raw:
                stream = decompressed(raw, compression_of(raw))
                left = position + len(rest)
                while left and (block := stream.read(min(BLOCK_BYTES, left))):
                    left -= len(block)
                while block := stream.read(size):
                    rest += block
        except FileSystemError:
            raise
        except DAMAGE:
            # The next reads are smaller.
            continue
    if rest:
        yield bytes(rest)
