"""WebP files: where the first frame of an animation stands. Pillow shows black around it."""

from __future__ import annotations

import struct

_FIRST_CHUNK, _CHUNK_HEAD, _FRAME_HEAD = 12, 8, 12


def first_frame(content: bytes) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the first frame; None if it is no animation.

    Args:
        content: the file, not trusted.
    """
    at = _FIRST_CHUNK
    while at + _CHUNK_HEAD + _FRAME_HEAD <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        if name == b"ANMF":
            places = range(at + _CHUNK_HEAD, at + _CHUNK_HEAD + _FRAME_HEAD, 3)
            x, y, width, height = (int.from_bytes(content[n : n + 3], "little") for n in places)
            # Offsets are counted by twos, and sides from one on.
            return 2 * x, 2 * y, 2 * x + width + 1, 2 * y + height + 1
        at += _CHUNK_HEAD + size + size % 2
    return None
