"""Where metadata lies in the files of each format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

import brotli

from curation.media.pictures.jpeg import segments
from curation.media.pictures.metadata.iptc import PHOTOSHOP, add_iptc
from curation.media.pictures.metadata.tags import add_tags
from curation.media.pictures.metadata.texts import Texts, add_text, decoded
from curation.media.pictures.metadata.xmp import MAX_PACKET_BYTES, MAX_PACKETS, add_xmp
from curation.media.web.content_coding import brotli_parts
from curation.media.web.fetch_error import FetchError

MAX_BLOCKS = 10_000
"""Segments, chunks or boxes of one picture that are read."""
MAX_TEXT_BYTES = 16 * 2**20
"""Texts of one PNG that are read, in bytes: thousands of small chunks may expand to a mebibyte each."""
_APP1, _APP11, _APP13, _SOS = 0xE1, 0xEB, 0xED, 0xDA
_EXIF = b"Exif\0\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENDED_HEADER_BYTES = len(_EXTENDED_XMP) + 32 + 8
_TIFF_STARTS = (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08")
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_LARGE = (b"iTXt", b"XMP ")
"""Chunks with XMP, which editors fill with the history of a picture."""
_PNG_FIELDS = {
    "copyright": "rights",
    "author": "creator",
    "artist": "creator",
    "description": "description",
    "title": "description",
    "creation time": "taken",
}
_XMP = "xml:com.adobe.xmp"
_RAW_PROFILE = "raw profile type "


def add_metadata(texts: Texts, content: bytes, kind: str) -> None:
    """Add the texts of a file.

    Args:
        texts: by field.
        content: the file, not trusted.
        kind: its format, as in the table `images`.
    """
    reader = _READERS.get(kind, _add_nothing)
    try:
        reader(texts, content)
    except (FetchError, struct.error, zlib.error, ValueError, IndexError):
        # Metadata that is broken is none.
        return


def _add_nothing(texts: Texts, content: bytes) -> None:
    """These formats have no metadata."""


def _add_jpeg(texts: Texts, content: bytes) -> None:
    photoshop, extended, last = [], [], 2
    for number, (marker, start, end) in enumerate(segments(content)):
        if number == MAX_BLOCKS or marker == _SOS:
            break
        data, last = content[start + 4 : end], end
        if marker == _APP1 and data.startswith(_EXIF):
            add_tags(texts, data[len(_EXIF) :])
        elif marker == _APP1 and data.startswith(_EXTENDED_XMP):
            extended.append(data[_EXTENDED_HEADER_BYTES:])
        elif marker == _APP13 and data.startswith(PHOTOSHOP):
            photoshop.append(data[len(PHOTOSHOP) :])
        elif marker == _APP11 and data.startswith(b"JP") and b"c2pa" in data:
            add_text(texts, "c2pa", "segment")
    add_xmp(texts, content[:last])
    add_xmp(texts, b"".join(extended))
    add_iptc(texts, b"".join(photoshop))


def _add_png(texts: Texts, content: bytes) -> None:
    left = MAX_TEXT_BYTES
    for name, data in _chunks(content, 8, ">I4s", 4, padded=False):
        if name == b"eXIf":
            add_tags(texts, data.removeprefix(_EXIF))
        elif name == b"caBX":
            add_text(texts, "c2pa", "chunk")
        elif name in (b"tEXt", b"zTXt", b"iTXt") and left > 0:
            # A broken chunk must not hide an opt-out in a later one.
            with suppress(zlib.error, ValueError):
                left -= _add_png_text(texts, name, data, left)


def _add_png_text(texts: Texts, name: bytes, data: bytes, left: int) -> int:
    """Add the text of a chunk, of which XMP may take all bytes that are left, and return its bytes."""
    key, _, rest = data.partition(b"\0")
    keyword, value = decoded(key[:80]).lower(), rest
    limit = left if keyword == _XMP else MAX_PACKET_BYTES
    if name == b"zTXt":
        value = _unpacked(rest[1:], limit)
    elif name == b"iTXt":
        is_packed, value = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
        value = _unpacked(value, limit) if is_packed else value
    if keyword == _XMP:
        add_xmp(texts, value)
    elif keyword.startswith(_RAW_PROFILE):
        _add_raw_profile(texts, value)
    elif keyword in _PNG_FIELDS:
        add_text(texts, _PNG_FIELDS[keyword], decoded(value))
    return len(value)


def _add_raw_profile(texts: Texts, value: bytes) -> None:
    """Add the texts of a profile as ImageMagick writes it: name, size, and hexadecimal digits."""
    value = value[: 2 * MAX_PACKET_BYTES]
    profile = bytes.fromhex(b"".join(value.split()[2:]).decode("ascii", "replace"))
    add_tags(texts, profile.removeprefix(_EXIF))
    add_iptc(texts, profile.removeprefix(PHOTOSHOP))
    add_xmp(texts, profile)


def _unpacked(packed: bytes, max_bytes: int) -> bytes:
    return zlib.decompressobj().decompress(packed, max_bytes)


def _add_webp(texts: Texts, content: bytes) -> None:
    for name, data in _chunks(content, 12, "<4sI", 0, padded=True):
        if name == b"EXIF":
            add_tags(texts, data.removeprefix(_EXIF))
        elif name == b"XMP ":
            add_xmp(texts, data)
        elif name == b"C2PA":
            add_text(texts, "c2pa", "chunk")


def _chunks(
    content: bytes, at: int, header: str, check_bytes: int, *, padded: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and data of the chunks of PNG or RIFF; those with pixels are empty."""
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(content):
            return
        first, second = struct.unpack_from(header, content, at)
        name, size = (first, second) if isinstance(first, bytes) else (second, first)
        is_read = size <= MAX_PACKET_BYTES or name in _LARGE
        is_read = is_read and name not in (b"IDAT", b"fdAT")
        yield name, content[at + 8 : at + 8 + size] if is_read else b""
        at += 8 + size + check_bytes + (size % 2 if padded else 0)


def _add_gif(texts: Texts, content: bytes) -> None:
    add_xmp(texts, content)
    if b"C2PA_GIF" in content:
        add_text(texts, "c2pa", "extension")


def _add_tiff(texts: Texts, content: bytes) -> None:
    add_tags(texts, content)
    # BigTIFF has other tags.
    add_xmp(texts, content)


def _add_jxl(texts: Texts, content: bytes) -> None:
    """Add the texts of a JPEG XL, whose boxes may be compressed: its reference encoder does so."""
    _add_boxes(texts, content)
    packed = (data for kind, data in _boxes(content) if kind == b"brob")
    left = MAX_TEXT_BYTES
    for data in islice(packed, MAX_PACKETS):
        is_xmp = data[:4] == b"xml "
        box = data[:4] + _decompressed(data[4:], left if is_xmp else MAX_PACKET_BYTES)
        left -= len(box) if is_xmp else 0
        _add_boxes(texts, box)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the data of each box of a file."""
    at = 0
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(content):
            return
        size, kind = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if size == 1:
            (size,), start = struct.unpack_from(">Q", content, start), at + 16
        end = at + size if size else len(content)
        if end < start:
            return
        yield kind, content[start : min(end, start + MAX_TEXT_BYTES)]
        at = end


def _decompressed(packed: bytes, max_bytes: int) -> bytes:
    """Return the beginning of data that brotli has compressed, as far as it is sound."""
    parts: list[bytes] = []
    with suppress(brotli.error):
        parts.extend(brotli_parts(packed, max_bytes))
    return b"".join(parts)[:max_bytes]


def _add_boxes(texts: Texts, content: bytes) -> None:
    """Add the texts of a file of ISO boxes: AVIF, HEIC, JPEG XL, JPEG 2000."""
    add_xmp(texts, content)
    starts = (content.find(start) for start in _TIFF_STARTS)
    at = min((at for at in starts if at >= 0), default=-1)
    if at >= 0:
        add_tags(texts, content[at : at + MAX_PACKET_BYTES])
    if _C2PA_BOX in content or (b"jumb" in content and b"c2pa" in content):
        add_text(texts, "c2pa", "box")


_READERS: dict[str, Callable[[Texts, bytes], None]] = {
    "jpeg": _add_jpeg,
    "png": _add_png,
    "webp": _add_webp,
    "gif": _add_gif,
    "tiff": _add_tiff,
    "jxl": _add_jxl,
    **dict.fromkeys(("avif", "heic", "jpeg2000"), _add_boxes),
}
