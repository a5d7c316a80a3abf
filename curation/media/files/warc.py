"""Records of WARC files, of which WAT files are made. Libraries for it end a process on odd bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from curation.media.files.compression import buffered
from curation.media.files.limits import MIB, WARC_HEADER_BYTES

_LINE_BYTES = 8192
_END = "it ends in the middle of a record"


class WarcError(ValueError):
    """What is no WARC record."""


class Record(NamedTuple):
    """One record.

    Attributes:
        name: its id.
        size: of its content, in bytes.
        content: None if it is larger than what was asked for.
    """

    name: str
    size: int
    content: bytes | None


def read_records(stream: Any, kind: str, max_bytes: int) -> Iterator[Record]:
    """Yield the records of one type from a decompressed stream.

    Args:
        stream: the bytes of a file.
        kind: the type, such as `metadata`.
        max_bytes: of the content of a record.

    Raises:
        WarcError: something else stands where a record should.
        EOFError: it ends in the middle of one.
    """
    lines = buffered(stream)
    while (first := _first_line(lines)) is not None:
        if not first.startswith(b"WARC/"):
            raise WarcError("a record does not begin with WARC")
        fields = _fields(lines)
        size = _size(fields.get(b"content-length", b""))
        is_wanted = fields.get(b"warc-type", b"").lower() == kind.encode()
        if is_wanted and size <= max_bytes:
            content = lines.read(size)
            if len(content) < size:
                raise EOFError(_END)
        else:
            content = None
            _skip(lines, size)
        if is_wanted:
            name = fields.get(b"warc-record-id", b"").decode("utf-8", "replace")
            yield Record(name, size, content)


def _first_line(lines: Any) -> bytes | None:
    """Return the next line that is not blank; None at the end."""
    while line := lines.readline(_LINE_BYTES):
        if line.strip():
            return bytes(line)
    return None


def _fields(lines: Any) -> dict[bytes, bytes]:
    """Return the fields of a header, by their names in lower case."""
    fields: dict[bytes, bytes] = {}
    left = WARC_HEADER_BYTES
    while (line := lines.readline(left)).strip():
        left -= len(line)
        if left <= 0:
            raise WarcError(f"a header has more than {WARC_HEADER_BYTES:,} bytes")
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    if not line:
        raise EOFError(_END)
    return fields


def _size(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise WarcError("a record has no length")
    return int(text)


def _skip(lines: Any, size: int) -> None:
    while size:
        block = lines.read(min(size, MIB))
        if not block:
            raise EOFError(_END)
        size -= len(block)
