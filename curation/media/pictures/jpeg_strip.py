"""JPEG files without what pixels do not need: metadata, previews, comments, bytes after the end."""

from __future__ import annotations

import re

from curation.media.pictures.jpeg import FRAMES, MANY_SCANS, segment_at, segments

_SOI, _EOI, _SOS, _DNL = b"\xff\xd8", 0xD9, 0xDA, 0xDC
_TABLES = frozenset((0xC4, 0xCC, 0xDB, 0xDD, _DNL)) | FRAMES
_APP0, _APP14 = 0xE0, 0xEE
_JFIF, _JFIF_BYTES = b"JFIF\0", 14
_ADOBE, _ADOBE_BYTES = b"Adobe", 12
# Within a scan, FF 00 is a byte, FF D0 to FF D7 restart it, and FF FF is padding.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def stripped(content: bytes) -> bytes | None:
    """Return a sound JPEG with only what its pixels need, or None if it must be encoded anew.

    What remains says how to decode it: frames, tables, scans, and the headers of JFIF and Adobe, by
    which decoders know the colours. A file with very many scans is not kept, since each further reading
    of it would be slow.

    Args:
        content: decodes without a warning.
    """
    parts, first = [_SOI], 0
    for marker, start, end in segments(content):
        if marker == _SOS:
            first = start
        elif marker in _TABLES:
            parts.append(content[start:end])
        else:
            parts.append(_colours(marker, content[start + 4 : end]))
    scans = _scans(content, first)
    return None if scans is None else b"".join([*parts, *scans])


def _colours(marker: int, data: bytes) -> bytes:
    """Return the header of JFIF (without its thumbnail) or of Adobe, and nothing for other segments."""
    if marker == _APP0 and data.startswith(_JFIF) and len(data) >= _JFIF_BYTES:
        return _segment(marker, data[: _JFIF_BYTES - 2] + b"\0\0")
    if marker == _APP14 and data.startswith(_ADOBE) and len(data) >= _ADOBE_BYTES:
        return _segment(marker, data[:_ADOBE_BYTES])
    return b""


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2) + data


def _scans(content: bytes, at: int) -> list[bytes] | None:
    """Return the scans from an offset on, with the tables between them, and the end."""
    parts: list[bytes] = []
    scans = 0
    while True:
        marker, start, end = segment_at(content, at)
        if marker == _EOI:
            return [*parts, content[start : start + 2]]
        if marker == _SOS:
            scans += 1
            following = _MARKER.search(content, end)
            if scans > MANY_SCANS or following is None:
                return None
            end = following.start()
        if marker == _SOS or marker in _TABLES:
            parts.append(content[start:end])
        following = _MARKER.search(content, end)
        if following is None:
            return None
        at = following.start()
