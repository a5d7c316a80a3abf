"""JPEG files without what pixels do not need: metadata, previews, comments, bytes after the end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curation.media.pictures.jpeg import FRAMES, MANY_SCANS, Segment, segment_at, segments
from curation.media.pictures.jpeg_tables import TABLES, Tables, TableSegment

_SOI, _EOI, _SOS, _DRI = b"\xff\xd8", 0xD9, 0xDA, 0xDD
_DRI_BYTES = 6
_APP0, _APP14 = 0xE0, 0xEE
_JFIF, _JFIF_BYTES = b"JFIF\0", 14
_ADOBE, _ADOBE_BYTES = b"Adobe", 12
# Within a scan, FF 00 is a byte, FF D0 to FF D7 restart it, and FF FF is padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def stripped(content: bytes) -> bytes | None:
    """Return a sound JPEG with only what its pixels need, or None if it must be encoded anew.

    What remains says how to decode it: frames, scans, the tables that they read, and the headers of
    JFIF and Adobe, by which decoders know the colours. A file with very many scans is not kept, since
    each further reading of it would be slow.

    Args:
        content: decodes without a warning.
    """
    tables = Tables()
    try:
        parts = [_kept(content[s.start : s.end], tables) for s in _segments(content)]
    except ValueError:
        return None
    # Which tables of a segment are read shows in later ones.
    kept = (part.kept() if isinstance(part, TableSegment) else part for part in parts)
    return b"".join([_SOI, *kept])


def _kept(segment: bytes, tables: Tables) -> bytes | TableSegment:
    """Return what is kept of a segment.

    Raises:
        ValueError: it holds more or less than it should.
    """
    marker = segment[1]
    if marker in TABLES:
        return tables.define(segment)
    if marker in FRAMES:
        tables.read_frame(segment)
    elif marker == _SOS:
        tables.read_scan(segment[: segment_at(segment, 0).end])
    elif marker == _DRI and len(segment) != _DRI_BYTES:
        raise ValueError("an interval of restarts is one number")
    elif marker not in (_EOI, _DRI):
        return _colours(marker, segment[4:])
    return segment


def _colours(marker: int, data: bytes) -> bytes:
    """Return the header of JFIF (without its thumbnail) or of Adobe, and nothing for other segments."""
    if marker == _APP0 and data.startswith(_JFIF) and len(data) >= _JFIF_BYTES:
        return _segment(marker, data[: _JFIF_BYTES - 2] + b"\0\0")
    if marker == _APP14 and data.startswith(_ADOBE) and len(data) >= _ADOBE_BYTES:
        return _segment(marker, data[:_ADOBE_BYTES])
    return b""


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2) + data


def _segments(content: bytes) -> Iterator[Segment]:
    """Yield all segments, the header of a scan with what it encodes, up to the end.

    Raises:
        ValueError: the file has no end, or very many scans.
    """
    *header, first = segments(content)
    yield from header
    at, scans = first.start, 0
    while content[at + 1] != _EOI:
        marker, start, end = segment_at(content, at)
        scans += marker == _SOS
        at = _next_marker(content, end)
        if scans > MANY_SCANS:
            raise ValueError("very many scans")
        yield Segment(marker, start, at if marker == _SOS else end)
    yield Segment(_EOI, at, at + 2)


def _next_marker(content: bytes, at: int) -> int:
    following = _MARKER.search(content, at)
    if following is None:
        raise ValueError("no end")
    return following.start()
