"""BMP files: the ICC profile that version 5 of their header may name."""

from __future__ import annotations

import struct

from curation.media.pictures.colours import MAX_PROFILE_BYTES

_HEADER_AT, _VERSION_5, _COLOURS_AT, _PROFILE_AT = 14, 124, 70, 126
_EMBEDDED = b"DEBM"


def profile_in_bmp(content: bytes) -> bytes | None:
    """Return the ICC profile that a file holds, as ImageMagick writes it; None if it holds none.

    Args:
        content: the file, not trusted.
    """
    if len(content) < _HEADER_AT + _VERSION_5:
        return None
    (header,) = struct.unpack_from("<I", content, _HEADER_AT)
    if header < _VERSION_5 or content[_COLOURS_AT : _COLOURS_AT + 4] != _EMBEDDED:
        return None
    start, size = struct.unpack_from("<II", content, _PROFILE_AT)
    start += _HEADER_AT
    return content[start : start + min(size, MAX_PROFILE_BYTES + 1)] or None
