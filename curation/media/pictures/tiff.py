"""TIFF files: damage that libtiff passes over.

libtiff fills what it cannot decode. It writes errors of some decoders to the standard error stream, and
nothing for others. So errors of decoders count here, and strips and tiles of JPEG or of deflated data
are checked by themselves.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from PIL import Image, ImagePalette

from curation.media.pictures.jpeg import FRAMES, read_jpeg, segments
from curation.media.web.fetch_error import FetchError

_STDERR = 2
_READ_BYTES = 2**16
_PART_BYTES = 2**20
_DECODER_ERROR = re.compile(rb"^(\w*Decode\w*|JPEGLib|TIFFFill\w+):", re.MULTILINE)
_SUBFILE_TYPE, _SUB_IMAGES, _DNG_VERSION = 254, 330, 50706
_REDUCED = 1
"""The bit of _SUBFILE_TYPE that says that there is a larger image."""
_MAX_THUMBNAILS = 4
"""Pages before the one that is shown."""
_PLANES, _COLOUR_MAP, _SAMPLE_FORMAT = 284, 320, 339
_APART, _SIGNED, _UNCOMPRESSED = 2, 2, 1
_WIDTH, _HEIGHT = 256, 257
_BITS, _COMPRESSION, _FILL_ORDER, _ROWS_PER_STRIP = 258, 259, 266, 278
_TILE_WIDTH, _TILE_HEIGHT, _JPEG_TABLES = 322, 323, 347
_EXTENTS = ((273, 279), (324, 325))
"""Tags of the offsets and sizes of strips, and of tiles."""
_DEFLATE, _JPEG = (8, 32946), 7
_SOI = b"\xff\xd8"
_GREY_AND_ALPHA = bytes((2,))
"""The number of components of such a JPEG, as GDAL writes it."""


def is_raw(image: Image.Image) -> bool:
    """Whether a TIFF is a raw file of a camera: what can be read of it is a small preview."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    kind = tags.get(_SUBFILE_TYPE)
    is_preview = isinstance(kind, int) and bool(kind & _REDUCED) and _SUB_IMAGES in tags
    return is_preview or _DNG_VERSION in tags


def show_first_whole_page(image: Image.Image) -> None:
    """Select the first page of a TIFF that is not marked as a smaller copy of another page."""
    for page in range(1, _MAX_THUMBNAILS + 1):
        kind = getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE)
        if not (isinstance(kind, int) and kind & _REDUCED):
            return
        try:
            image.seek(page)
        except EOFError:
            break
    image.seek(0)


def correct(image: Image.Image) -> None:
    """Correct what Pillow makes of the header of a TIFF, before its pixels are read.

    Raises:
        FetchError: `unsupported_format`: its numbers have a sign, so they do not say which value is
            white, or they are planes that Pillow cannot read.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if _SIGNED in _numbers(tags, _SAMPLE_FORMAT):
        raise FetchError("unsupported_format")
    colours = _numbers(tags, _COLOUR_MAP)
    if image.mode == "P" and colours and max(colours) < 256:
        # Some programs write bytes where the format wants numbers of 16 bits, as libtiff knows.
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))
    is_plain = tags.get(_COMPRESSION) == _UNCOMPRESSED and tags.get(_PLANES) == _APART
    if is_plain and 16 in _numbers(tags, _BITS):
        if image.mode not in ("RGB", "RGBA"):
            raise FetchError("unsupported_format")
        order = "B" if getattr(tags, "prefix", b"") == b"MM" else "L"
        # Pillow would read each byte of a plane as a number.
        image.tile = [  # type: ignore[attr-defined]
            tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
            for tile in image.tile  # type: ignore[attr-defined]
        ]


def _numbers(tags: Mapping[int, Any], tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    values = value if isinstance(value, tuple) else (value,)
    return values if all(isinstance(v, int) for v in values) else ()


@contextmanager
def errors_of_libtiff() -> Iterator[None]:
    """Keep libtiff from writing to the standard error stream.

    Raises:
        FetchError: `undecodable`: one of its decoders wrote an error.
    """
    reader, writer = os.pipe()
    # Neither end waits: of endless errors, only the first are kept.
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    stream = os.dup(_STDERR)
    try:
        os.dup2(writer, _STDERR)
        os.close(writer)
        try:
            yield
        finally:
            os.dup2(stream, _STDERR)
        if _DECODER_ERROR.search(_content(reader)):
            raise FetchError("undecodable")
    finally:
        os.close(stream)
        os.close(reader)


def _content(reader: int) -> bytes:
    parts = []
    try:
        while part := os.read(reader, _READ_BYTES):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def check_parts(image: Image.Image, content: bytes) -> None:
    """Check the strips or tiles of a TIFF that was decoded, where their compression can tell.

    Args:
        image: the TIFF.
        content: the file.

    Raises:
        FetchError: `truncated` or `undecodable`.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    compression = tags.get(_COMPRESSION)
    if compression == _JPEG:
        tables = tags.get(_JPEG_TABLES, b"")[2:-2]
        for part in _parts(tags, content):
            _check_jpeg(_SOI + tables + part[len(_SOI) :])
    elif compression in _DEFLATE and tags.get(_FILL_ORDER, 1) == 1:
        # Pillow has turned the image, and its strips lie as they did.
        width, height = tags.get(_WIDTH, image.width), tags.get(_HEIGHT, image.height)
        columns = tags.get(_TILE_WIDTH, width)
        rows = tags.get(_TILE_HEIGHT, min(tags.get(_ROWS_PER_STRIP, height), height))
        most = rows * -(-columns * sum(tags.get(_BITS, (1,))) // 8)
        for part in _parts(tags, content):
            _check_deflated(part, most)


def _parts(tags: Mapping[int, Any], content: bytes) -> Iterator[bytes]:
    for offsets, sizes in _EXTENTS:
        for start, size in zip(tags.get(offsets, ()), tags.get(sizes, ()), strict=False):
            if size:
                yield content[start : start + size]


def _check_jpeg(part: bytes) -> None:
    frame = next((s for s in segments(part) if s.marker in FRAMES), None)
    if frame is not None and part[frame.start + 9 : frame.start + 10] == _GREY_AND_ALPHA:
        # Only libtiff decodes these.
        return
    with Image.open(io.BytesIO(part), formats=["JPEG"]) as image:
        size = image.size
    read_jpeg(part, size)


def _check_deflated(part: bytes, most: int) -> None:
    """Check the sum at the end of deflated data, which must come after at most so many bytes."""
    unpacker, packed, count = zlib.decompressobj(), part, 0
    try:
        while packed and count <= most and not unpacker.eof:
            data = unpacker.decompress(packed, _PART_BYTES)
            packed, count = unpacker.unconsumed_tail, count + len(data)
    except zlib.error as error:
        raise FetchError("undecodable") from error
    if count > most:
        raise FetchError("undecodable")
