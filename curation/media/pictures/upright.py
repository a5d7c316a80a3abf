"""Checks untrusted image files by their header, and turns them into upright 8-bit sRGB pixels.

simplejpeg decodes JPEGs, strictly; Pillow decodes all other files. The result is what a browser shows
on a white page, or a reason.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.IcoImagePlugin import IcoImageFile

from curation.media.pictures.bmp import profile_in_bmp
from curation.media.pictures.colour_boxes import profile_in_boxes
from curation.media.pictures.colours import srgb_transform, to_srgb
from curation.media.pictures.formats import FORMATS, format_of, pillow_formats
from curation.media.pictures.icon import shown_image
from curation.media.pictures.jpeg import check_scans, essential, profile_in_jpeg, read_jpeg
from curation.media.pictures.jpeg2000 import in_eight_bits
from curation.media.pictures.jpeg_strip import stripped
from curation.media.pictures.jpegxl import is_animated
from curation.media.pictures.pixels import Pixels, in_bands, to_rgb
from curation.media.pictures.png import Png, read_png
from curation.media.pictures.tiff import (
    check_parts,
    correct,
    errors_of_libtiff,
    is_raw,
    show_first_whole_page,
)
from curation.media.pictures.webp import first_frame
from curation.media.web.fetch_error import FetchError

logger = logging.getLogger(__name__)

_EXIF_ORIENTATION, _SHORT = 0x0112, 3
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
# Pillow turns TIFFs itself when it loads them; the plug-ins turn HEIC and JPEG XL.
_TURNED_BY_EXIF = ("jpeg", "png", "webp", "avif")
# Browsers show these without a profile.
_WITHOUT_PROFILE = ("gif", "ico", "ppm")
_Frame = tuple[int, int, int, int]
"""Left, top, right and bottom of the first frame of an image."""


@dataclass(frozen=True)
class UprightImage:
    """An image as a browser shows it.

    Attributes:
        pixels: sRGB, upright: uint8 of shape (height, width, 3), or (height, width) if it is grey.
        format: of the file, as in the table `images`.
        orientation: EXIF orientation of the file; the pixels need none.
        original: the file without metadata, if it is a JPEG that all readers show as these pixels; else
            None.
    """

    pixels: Pixels
    format: str
    orientation: int = 1
    original: bytes | None = None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def rgb(self) -> Pixels:
        """The pixels with three channels."""
        return self.pixels if self.pixels.ndim == 3 else np.stack([self.pixels] * 3, -1)


def make_upright(content: bytes, max_pixels: int, formats: Sequence[str] = ()) -> UprightImage:
    """Return the image of a file, upright and 8 bit.

    Not thread-safe: it sets Pillow's limit for the process, and redirects its standard error stream.

    Args:
        content: bytes of the file, not trusted.
        max_pixels: largest width times height.
        formats: of PLUG_INS that are read, too.

    Raises:
        RecipeError: the plug-in of one of `formats` is not installed.
        FetchError: its reason is empty, not_an_image, unsupported_format, format_<name>,
            too_many_pixels, truncated, undecodable or decoder_memory.
    """
    if not content:
        raise FetchError("empty")
    with warnings.catch_warnings(), _pixel_limit(max_pixels):
        # The size is checked below; other warnings are about metadata that is not used.
        warnings.simplefilter("ignore")
        png = read_png(content) if format_of(content) == "png" else None
        content = shown_image(content) if format_of(content) == "ico" else content
        with _open(png.content if png else content, pillow_formats(tuple(formats))) as image:
            if image.format == "TIFF":
                _choose_page(image, content)
            if image.width < 1 or image.height < 1:
                raise FetchError("undecodable")
            width, height = png.page if png else image.size
            if width * height > max_pixels:
                raise FetchError("too_many_pixels")
            within = _png_within(image, content)
            if within is not None:
                # Pillow does not look at the checksums of its pixels.
                return replace(make_upright(within, max_pixels), format="ico")
            kind = FORMATS[image.format or ""]
            return (
                _read_jpeg(content, image) if kind == "jpeg" else _read(image, kind, content, png)
            )


def _choose_page(image: Image.Image, content: bytes) -> None:
    """Select the page of a TIFF and correct its header; refuse raw files of cameras."""
    if is_raw(image) or format_of(content) == "raw":
        raise FetchError("format_raw")
    with _reasons():
        show_first_whole_page(image)
        correct(image)


@contextmanager
def _pixel_limit(max_pixels: int) -> Iterator[None]:
    """Let Pillow refuse images within images (ICO, GIF) that are larger; it refuses twice its limit."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, (max_pixels + 1) // 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _png_within(image: Image.Image, content: bytes) -> bytes | None:
    """Return the PNG that an icon shows, if it shows one."""
    if not isinstance(image, IcoImageFile):
        return None
    within = content[image.ico.entry[0].offset :]
    return within if format_of(within) == "png" else None


def _read(image: Image.Image, kind: str, content: bytes, png: Png | None) -> UprightImage:
    profile = png.profile if png else _profile(image, content, kind)
    orientation = _orientation(image) if kind in _TURNED_BY_EXIF else 1
    size, frame = _page(image, content, png)
    if kind == "jxl" and is_animated(content):
        raise FetchError("unsupported_format")
    if kind == "jpeg2000":
        with _reasons():
            image = in_eight_bits(image, content)
    pixels = _decode(image, profile, png)
    pixels = _turn(_on_page(pixels, size, frame), orientation)
    if png and _ends_in_zeros(image) and png.is_short():
        raise FetchError("truncated")
    if kind == "tiff":
        with _reasons():
            check_parts(image, content)
    return UprightImage(pixels, kind, orientation)


def _profile(image: Image.Image, content: bytes, kind: str) -> bytes | None:
    if kind in _WITHOUT_PROFILE:
        return None
    profile: bytes | None = image.info.get("icc_profile")
    return profile or (
        profile_in_bmp(content) if kind == "bmp" else profile_in_boxes(content, kind)
    )


def _ends_in_zeros(image: Image.Image) -> bool:
    """Whether the last rows, of which one is the last to be read, are only zeros."""
    rows = image.crop((0, max(0, image.height - 2), image.width, image.height))
    return rows.getbbox() is None


def _open(content: bytes, formats: Mapping[str, str]) -> Image.Image:
    """Return the image with only its header read."""
    try:
        return Image.open(io.BytesIO(content), formats=list(formats))
    except UnidentifiedImageError as error:
        kind = format_of(content)
        if kind == "jpeg":
            return _open_essential(content)
        if kind is None:
            raise FetchError("not_an_image") from error
        raise FetchError("undecodable" if kind in formats.values() else f"format_{kind}") from error
    except Exception as error:
        raise decode_error(error) from error


def _open_essential(content: bytes) -> Image.Image:
    """Return a JPEG whose header Pillow cannot read, without the segments that pixels do not need."""
    try:
        return Image.open(io.BytesIO(essential(content)), formats=["JPEG"])
    except Exception as error:
        raise FetchError("undecodable") from error


def decode_error(error: Exception) -> FetchError:
    """Return the reason that an error of a decoder stands for."""
    # Decoders raise errors of any type on hostile bytes, so all errors of their calls are caught.
    logger.debug("undecodable: %r", error)
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return FetchError("decoder_memory")
    if isinstance(error, Image.DecompressionBombError):
        return FetchError("too_many_pixels")
    is_truncated = isinstance(error, EOFError) or "truncat" in str(error).lower()
    return FetchError("truncated" if is_truncated else "undecodable")


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn the errors of decoders into reasons."""
    try:
        yield
    except FetchError:
        raise
    except Exception as error:
        raise decode_error(error) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; XMP may name another, which browsers do not follow.

    Nor do they follow one of another type than the standard's, or of several numbers, as Pillow does.
    """
    exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, numbers, orientation = struct.unpack_from(f"{order}HHIH", exif, entry)
            if (tag, kind, numbers) == (_EXIF_ORIENTATION, _SHORT, 1):
                return int(orientation) if orientation in _TURNS else 1
    except struct.error as error:
        logger.debug("no orientation: %r", error)
    return 1


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _read_jpeg(content: bytes, image: Image.Image) -> UprightImage:
    check_scans(content, image.width * image.height)
    sound, profile = read_jpeg(content, image.size), profile_in_jpeg(content)
    orientation = _orientation(image)
    if sound.pixels is not None:
        is_srgb = srgb_transform(profile, "L" if sound.pixels.ndim == 2 else "RGB") is None
        if is_srgb and orientation == 1:
            original = stripped(content) if sound.content is content else None
            return UprightImage(sound.pixels, "jpeg", 1, original)
        pixels = sound.pixels if is_srgb else _to_srgb(sound.pixels, profile)
    else:
        with _open(sound.content, {"JPEG": "jpeg"}) as readable:
            pixels = _decode(readable, profile)
    return UprightImage(_turn(pixels, orientation), "jpeg", orientation)


def _to_srgb(pixels: Pixels, profile: bytes | None) -> Pixels:
    return in_bands(Image.fromarray(pixels), lambda band: to_srgb(band, profile))


def _decode(image: Image.Image, profile: bytes | None, png: Png | None = None) -> Pixels:
    """Return the first frame in sRGB, on white."""
    with _reasons():
        with errors_of_libtiff() if image.format == "TIFF" else nullcontext():
            image.load()
        alpha = png.alpha if png else None
        if alpha is not None:
            image.info.pop("transparency", None)
            image.putalpha(Image.fromarray(alpha))
        is_grey = png is not None and png.is_grey and image.mode == "RGBA"
        return to_rgb(image.convert("LA") if is_grey else image, profile)


def _page(image: Image.Image, content: bytes, png: Png | None) -> tuple[tuple[int, int], _Frame]:
    """Return the size of an image that is not loaded yet, and where its first frame stands in it."""
    size, frame = (png.page, png.frame) if png else (image.size, None)
    if isinstance(image, GifImageFile):
        frame = image.tile[0][1]
    elif image.format == "WEBP":
        frame = first_frame(content)
    return size, frame or (0, 0, *size)


def _on_page(pixels: Pixels, size: tuple[int, int], frame: _Frame) -> Pixels:
    """Return the image, white outside of its first frame.

    Args:
        pixels: of the image, or of the frame alone.
        size: width and height of the image.
        frame: where its first frame stands.
    """
    if frame == (0, 0, *size):
        return pixels
    left, top, right, bottom = (max(0, side) for side in frame)
    shown = np.full((size[1], size[0], *pixels.shape[2:]), 255, np.uint8)
    is_frame = pixels.shape[:2] != shown.shape[:2]
    shown[top:bottom, left:right] = pixels if is_frame else pixels[top:bottom, left:right]
    return shown
