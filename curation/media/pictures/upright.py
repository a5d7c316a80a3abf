"""Checks untrusted image files by their header, and turns them into upright 8-bit RGB images.

img2dataset's resizer reads plain JPEGs itself. Pillow decodes all other files, and they are passed on
as BMP: OpenCV would decode them wrongly (orientation, CMYK, 16 bit, palettes, transparency, animation)
or accept incomplete ones (PNG, WebP).
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from curation.media.web.fetch_error import FetchError

logger = logging.getLogger(__name__)

FORMATS = {
    "JPEG": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
}
# A JPEG file that holds several images (Multi-Picture Object); Pillow opens it as its first image.
_MULTI_PICTURE = "MPO"
_SUPPORTED_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_UNSUPPORTED_MAGIC = (b"\0\0\1\0", b"8BPS", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ")
_UNSUPPORTED_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_EXIF_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A progressive JPEG with very many scans takes minutes to decode; encoders write about ten scans. Each
# scan may touch every pixel, so scans times pixels are limited too, to about twenty seconds of work.
_MAX_SCANS = 500
_UNLIMITED_SCANS = 16
_MAX_SCANNED_PIXELS = 2_000_000_000
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class UprightImage:
    """An image that the resizer decodes correctly: encoded, upright, 8 bit.

    Attributes:
        encoded: the image as JPEG or BMP.
        format: of the original file, as in the table `images`.
        width: in pixels.
        height: in pixels.
        orientation: EXIF orientation of the original file; the encoded image needs none.
    """

    encoded: bytes
    format: str
    width: int
    height: int
    orientation: int = 1


def make_upright(content: bytes, max_pixels: int) -> UprightImage:
    """Return the image of a file, upright and 8 bit.

    Args:
        content: bytes of the file, not trusted.
        max_pixels: largest width times height.

    Raises:
        FetchError: its reason is empty, not_an_image, unsupported_format, too_many_pixels, truncated
            or undecodable.
    """
    if not content:
        raise FetchError("empty")
    with warnings.catch_warnings():
        # The size is checked below; other warnings are about metadata that is not used.
        warnings.simplefilter("ignore")
        with _open(content) as image:
            if image.width < 1 or image.height < 1:
                raise FetchError("undecodable")
            if image.width * image.height > max_pixels:
                raise FetchError("too_many_pixels")
            kind = FORMATS["JPEG" if image.format == _MULTI_PICTURE else image.format or ""]
            orientation = _orientation(image)
            if kind == "png":
                _check_png_chunks(content)
            if kind == "jpeg":
                _check_jpeg_scans(content, image.width * image.height)
                if image.mode in ("RGB", "L") and orientation not in _TRANSPOSITIONS:
                    return UprightImage(content, kind, image.width, image.height)
            # Pillow turns TIFFs itself when it loads them.
            upright = _decode(image, orientation if kind != "tiff" else 1)
    encoded = io.BytesIO()
    upright.save(encoded, "BMP")
    return UprightImage(encoded.getvalue(), kind, upright.width, upright.height, orientation)


def _open(content: bytes) -> Image.Image:
    """Return the image with only its header read."""
    # The caller checks the size against the recipe's own limit.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(content), formats=list(FORMATS))
    except UnidentifiedImageError as error:
        if content.startswith(_SUPPORTED_MAGIC) or content[8:12] == b"WEBP":
            raise FetchError("undecodable") from error
        is_unsupported = content[4:8] == b"ftyp" and content[8:12] in _UNSUPPORTED_BRANDS
        if is_unsupported or content.startswith(_UNSUPPORTED_MAGIC):
            raise FetchError("unsupported_format") from error
        raise FetchError("not_an_image") from error
    except Exception as error:
        raise _decode_error(error) from error


def _decode_error(error: Exception) -> FetchError:
    # Decoders raise errors of any type on hostile bytes, so all errors of their calls are caught.
    logger.debug("undecodable: %r", error)
    is_truncated = isinstance(error, EOFError) or "truncat" in str(error).lower()
    return FetchError("truncated" if is_truncated else "undecodable")


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception as error:
        logger.debug("no orientation: %r", error)
        return 1
    return orientation if isinstance(orientation, int) else 1


def _check_jpeg_scans(content: bytes, pixels: int) -> None:
    """Raise an error for a truncated JPEG, which OpenCV would fill with grey, and for a slow one."""
    first_scan = _first_scan(content)
    scans = content.count(_START_OF_SCAN, first_scan)
    is_slow = scans > _UNLIMITED_SCANS and scans * pixels > _MAX_SCANNED_PIXELS
    if scans > _MAX_SCANS or is_slow:
        raise FetchError("undecodable")
    if content.find(_END_OF_IMAGE, first_scan) < 0:
        raise FetchError("truncated")


def _first_scan(content: bytes) -> int:
    """Return the offset of the first scan, after all segments, which may hold a thumbnail."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        if content[at + 1] == _START_OF_SCAN[1]:
            return at
        is_padding = content[at + 1] == 0xFF
        at += 1 if is_padding else 2 + int.from_bytes(content[at + 2 : at + 4])
    raise FetchError("truncated" if at + 4 > len(content) else "undecodable")


def _check_png_chunks(content: bytes) -> None:
    """Raise an error for a PNG whose pixel data has a wrong checksum, which Pillow ignores."""
    at, kind = 8, b""
    while at + 12 <= len(content) and kind != b"IEND":
        end = at + 8 + int.from_bytes(content[at : at + 4])
        kind = content[at + 4 : at + 8]
        if kind == b"IDAT" and end + 4 <= len(content):
            expected = int.from_bytes(content[end : end + 4])
            if zlib.crc32(memoryview(content)[at + 4 : end]) != expected:
                raise FetchError("undecodable")
        at = end + 4


def _decode(image: Image.Image, orientation: int) -> Image.Image:
    """Return the first frame in RGB, turned upright."""
    try:
        with _without_libtiff_warnings(image):
            image.load()
        rgb = _to_rgb(image)
        transposition = _TRANSPOSITIONS.get(orientation)
        return rgb if transposition is None else rgb.transpose(transposition)
    except FetchError:
        raise
    except Exception as error:
        raise _decode_error(error) from error


def _without_libtiff_warnings(image: Image.Image) -> AbstractContextManager[Any]:
    """Keep libtiff from writing warnings about damaged files to the standard error stream."""
    if image.format != "TIFF":
        return nullcontext()
    from img2dataset.resizer import SuppressStdoutStderr

    suppressed: AbstractContextManager[Any] = SuppressStdoutStderr()
    return suppressed


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        high_byte = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(high_byte.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        # The file does not define which value is white.
        raise FetchError("unsupported_format")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert("RGB")
    return image.convert("RGB")
