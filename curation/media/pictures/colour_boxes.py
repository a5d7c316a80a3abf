"""Colours that boxes of ISO files name: AVIF, HEIC and JPEG 2000 (the box `colr`).

Pillow gives the ICC profile of an AVIF or a HEIC. It gives neither the codes of their colours (ITU-T
H.273), by which most of these files say what they are, nor the profile of a JPEG 2000.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from curation.media.pictures.coded_colours import CURVES_OF_BOXES, coded_profile

MAX_BOXES = 10_000
"""Boxes of one file that are read."""
_ICC_METHODS = (2, 3)
_FULL_BOX = 4


def profile_in_boxes(content: bytes, kind: str) -> bytes | None:
    """Return the ICC profile of the colours that a file names beside its own profile; None for sRGB.

    Args:
        content: the file, not trusted. Boxes that are broken name nothing.
        kind: its format, as in the table `images`.
    """
    try:
        if kind == "jpeg2000":
            return _of_jpeg2000(content)
        return _of_primary_item(content) if kind in ("avif", "heic") else None
    except (struct.error, IndexError, ValueError):
        return None


def boxes(content: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the data of the boxes between two offsets."""
    end = len(content) if end is None else end
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", content, start)
        first = start + 8
        if size == 1:
            (size,), first = struct.unpack_from(">Q", content, first), first + 8
        after = start + size if size else end
        if after < first or after > end:
            return
        # What holds the pixels is never looked into.
        yield kind, b"" if kind in (b"mdat", b"jp2c") else content[first:after]
        start = after


def _first(content: bytes, kind: bytes) -> bytes:
    """Return the data of the first box of a kind; nothing if there is none."""
    return next((data for name, data in boxes(content) if name == kind), b"")


def _of_jpeg2000(content: bytes) -> bytes | None:
    colours = _first(_first(content, b"jp2h"), b"colr")
    return colours[3:] if colours[:1] and colours[0] in _ICC_METHODS else None


def _of_primary_item(content: bytes) -> bytes | None:
    """Return the profile of the item that is shown: others, as gain maps, have colours of their own."""
    meta = _first(content, b"meta")[_FULL_BOX:]
    item, properties = _first(meta, b"pitm"), _first(meta, b"iprp")
    number = int.from_bytes(item[_FULL_BOX : _FULL_BOX + (4 if item[0] else 2)])
    of_items = list(boxes(_first(properties, b"ipco")))
    for name, associated in boxes(properties):
        for place in _associated(associated, number) if name == b"ipma" else ():
            kind, data = of_items[place - 1] if 0 < place <= len(of_items) else (b"", b"")
            if kind == b"colr" and data.startswith(b"nclx"):
                primaries, curve = struct.unpack_from(">HH", data, 4)
                return coded_profile(primaries, curve, CURVES_OF_BOXES)
    return None


def _associated(associations: bytes, item: int) -> Iterator[int]:
    """Yield the places, from 1 on, of the properties of an item."""
    version, is_wide = associations[0], bool(associations[3] & 1)
    (count,), at = struct.unpack_from(">I", associations, 4), 8
    for _ in range(min(count, MAX_BOXES)):
        width = 4 if version else 2
        number, places = int.from_bytes(associations[at : at + width]), associations[at + width]
        at += width + 1
        step = 2 if is_wide else 1
        for place in range(at, at + places * step, step):
            if number == item:
                yield int.from_bytes(associations[place : place + step]) & (2 ** (8 * step - 1) - 1)
        at += places * step
