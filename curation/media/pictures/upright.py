"""What the bytes of a stranger are: checked by their header first, then made an upright picture.

img2dataset's resizer reads plain JPEGs itself. What OpenCV would get wrong (orientation, CMYK, 16 bit,
palettes, transparency, animation) or read half (PNG, WebP) is decoded by Pillow and handed on as BMP.
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

from curation.media.web.refusal import RefusedError

logger = logging.getLogger(__name__)

FORMATS = {
    "JPEG": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
}
# A JPEG with further pictures behind the first; Pillow finds it when it opens a JPEG.
_SEVERAL = "MPO"
_KNOWN_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_OTHER_PICTURES = (b"\0\0\1\0", b"8BPS", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ")
_OTHER_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# A progressive JPEG of very many scans costs minutes; encoders write about ten. Each scan may touch
# every pixel, so that large ones may have fewer: this is some twenty seconds of work.
_MAX_SCANS = 500
_FREE_SCANS = 16
_MAX_VISITS = 2_000_000_000
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class Picture:
    """A picture that the resizer reads right: encoded, upright, 8 bit; size in pixels.

    `turn` is the EXIF orientation of the file, which is no longer needed.
    """

    encoded: bytes
    format: str
    width: int
    height: int
    turn: int = 1


def upright(content: bytes, max_pixels: int) -> Picture:
    """Return the picture in the bytes of a file.

    Raises:
        RefusedError: not_an_image, unsupported_format, too_many_pixels, truncated or undecodable.
    """
    if not content:
        raise RefusedError("empty")
    with warnings.catch_warnings():
        # Sizes are bounded here; other warnings are about metadata nobody reads.
        warnings.simplefilter("ignore")
        with _opened(content) as image:
            if image.width < 1 or image.height < 1:
                raise RefusedError("undecodable")
            if image.width * image.height > max_pixels:
                raise RefusedError("too_many_pixels")
            kind = FORMATS["JPEG" if image.format == _SEVERAL else image.format or ""]
            turn = _orientation(image)
            if kind == "png":
                _check_chunks(content)
            if kind == "jpeg":
                _check_complete(content, image.width * image.height)
                if image.mode in ("RGB", "L") and turn not in _TURNS:
                    return Picture(content, kind, image.width, image.height)
            found = _decoded(image, turn if kind != "tiff" else 1)
    encoded = io.BytesIO()
    found.save(encoded, "BMP")
    return Picture(encoded.getvalue(), kind, found.width, found.height, turn)


def _opened(content: bytes) -> Image.Image:
    """Return the picture with its header read and nothing else."""
    # Checked against the recipe's own bound right after.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(content), formats=list(FORMATS))
    except UnidentifiedImageError as error:
        if content.startswith(_KNOWN_STARTS) or content[8:12] == b"WEBP":
            raise RefusedError("undecodable") from error
        other = content[4:8] == b"ftyp" and content[8:12] in _OTHER_BRANDS
        if other or content.startswith(_OTHER_PICTURES):
            raise RefusedError("unsupported_format") from error
        raise RefusedError("not_an_image") from error
    except Exception as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> RefusedError:
    # Decoders raise anything on hostile bytes, so their calls alone are caught so widely.
    logger.debug("undecodable: %r", error)
    cut = isinstance(error, EOFError) or "truncat" in str(error).lower()
    return RefusedError("truncated" if cut else "undecodable")


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:
        logger.debug("no orientation: %r", error)
        return 1
    return found if isinstance(found, int) else 1


def _check_complete(content: bytes, pixels: int) -> None:
    """Refuse a JPEG cut short, which OpenCV would fill up with grey, and one that takes too long."""
    scan = _first_scan(content)
    scans = content.count(_START_OF_SCAN, scan)
    if scans > _MAX_SCANS or (scans > _FREE_SCANS and scans * pixels > _MAX_VISITS):
        raise RefusedError("undecodable")
    if content.find(_END_OF_IMAGE, scan) < 0:
        raise RefusedError("truncated")


def _first_scan(content: bytes) -> int:
    """Return where the pixels begin, past segments that may hold a whole thumbnail."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        if content[at + 1] == _START_OF_SCAN[1]:
            return at
        is_padding = content[at + 1] == 0xFF
        at += 1 if is_padding else 2 + int.from_bytes(content[at + 2 : at + 4])
    raise RefusedError("truncated" if at + 4 > len(content) else "undecodable")


def _check_chunks(content: bytes) -> None:
    """Refuse a PNG whose pixels do not keep their checksums, which Pillow does not look at."""
    at, kind = 8, b""
    while at + 12 <= len(content) and kind != b"IEND":
        end = at + 8 + int.from_bytes(content[at : at + 4])
        kind = content[at + 4 : at + 8]
        if kind == b"IDAT" and end + 4 <= len(content):
            promised = int.from_bytes(content[end : end + 4])
            if zlib.crc32(memoryview(content)[at + 4 : end]) != promised:
                raise RefusedError("undecodable")
        at = end + 4


def _decoded(image: Image.Image, turn: int) -> Image.Image:
    """Return the first frame as it must look, in RGB. TIFFs turn themselves when they load."""
    try:
        with _quiet(image):
            image.load()
        found = _rgb(image)
        return found.transpose(_TURNS[turn]) if turn in _TURNS else found
    except RefusedError:
        raise
    except Exception as error:
        raise _undecodable(error) from error


def _quiet(image: Image.Image) -> AbstractContextManager[Any]:
    """Keep libtiff's remarks on damaged files off the standard error stream."""
    if image.format != "TIFF":
        return nullcontext()
    from img2dataset.resizer import SuppressStdoutStderr

    quiet: AbstractContextManager[Any] = SuppressStdoutStderr()
    return quiet


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        high = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(high.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        # Nothing says which value is white.
        raise RefusedError("unsupported_format")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        return white.convert("RGB")
    return image.convert("RGB")
