"""Texts of tags of TIFF, which are those of EXIF too."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from curation.media.pictures.metadata.iptc import add_iptc
from curation.media.pictures.metadata.texts import Texts, add_text, decoded
from curation.media.pictures.metadata.xmp import MAX_PACKET_BYTES, add_xmp

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_MAX_TAGS = 1000
_UNIT_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 13: 4}
_EXIF, _XMP, _IPTC, _C2PA = 0x8769, 700, 33723, 0xCD41
_FIELDS = {
    0x8298: "rights",
    0x013B: "creator",
    0x010E: "description",
    0x010F: "maker",
    0x0110: "model",
    0x9003: "taken",
}


def add_tags(texts: Texts, content: bytes) -> None:
    """Add the texts of the first directory of a TIFF or of EXIF, and of the directory of EXIF in it."""
    order = _ORDERS.get(content[:4])
    if order is None or len(content) < 8:
        return
    (first,) = struct.unpack_from(f"{order}I", content, 4)
    for tag, value in _tags(content, order, first):
        _add(texts, tag, value)
        if tag == _EXIF and len(value) == 4:
            (inner,) = struct.unpack(f"{order}I", value)
            for inner_tag, text in _tags(content, order, inner):
                if inner_tag in _FIELDS:
                    _add(texts, inner_tag, text)


def _add(texts: Texts, tag: int, value: bytes) -> None:
    if tag in _FIELDS:
        # The copyright has two parts, of photographer and editor.
        add_text(texts, _FIELDS[tag], "; ".join(decoded(value).strip("\0 ").split("\0")))
    elif tag == _XMP:
        add_xmp(texts, value)
    elif tag == _IPTC:
        add_iptc(texts, value)
    elif tag == _C2PA:
        add_text(texts, "c2pa", "tag")


def _tags(content: bytes, order: str, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each tag of a directory."""
    if not 8 <= at <= len(content) - 2:
        return
    (count,) = struct.unpack_from(f"{order}H", content, at)
    for number in range(min(count, _MAX_TAGS)):
        place = at + 2 + 12 * number
        if place + 12 > len(content):
            return
        tag, kind, values = struct.unpack_from(f"{order}HHI", content, place)
        size = values * _UNIT_BYTES.get(kind, 0)
        start = place + 8
        if size > 4:
            (start,) = struct.unpack_from(f"{order}I", content, start)
        yield tag, content[start : start + min(size, MAX_PACKET_BYTES)]
