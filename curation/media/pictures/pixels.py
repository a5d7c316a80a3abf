"""Images of any mode of Pillow to 8-bit RGB on white, as browsers show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.media.pictures.colours import to_srgb
from curation.media.web.fetch_error import FetchError

Pixels = npt.NDArray[np.uint8]
BAND_PIXELS = 2**22
"""Pixels of a band that is converted at once."""
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0
# Modes that colour profiles can be applied to, by other modes of the same colours.
_PLAIN_MODES = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "PA": "RGBA"}
_COLOUR_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "LAB")


def to_rgb(image: Image.Image, profile: bytes | None) -> Pixels:
    """Return a loaded image in sRGB on a white page, uint8 of shape (height, width, 3).

    Args:
        image: its first frame is taken.
        profile: ICC profile of the file.

    Raises:
        FetchError: `unsupported_format`: the file does not say which value is white.
    """
    if image.mode in ("I", "F") and not (image.mode == "I" and image.format in ("PNG", "PPM")):
        raise FetchError("unsupported_format")
    shades = _Shades.of(image)
    # Writers that know no transparency leave its bytes at zero.
    is_opaque = (
        image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox()
    )
    return in_bands(
        image, lambda band: _on_white(to_srgb(_plain(band, shades), profile), is_opaque)
    )


def in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Return the pixels of an image that is converted to RGB, a band of rows after the other.

    Each band is converted alone, so that a large image needs little more memory than its result.

    Args:
        image: loaded.
        convert: returns a band in mode RGB; each pixel depends on nothing but itself.
    """
    rows = max(1, BAND_PIXELS // image.width)
    if rows >= image.height:
        return np.asarray(convert(image))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(convert(image.crop((0, top, image.width, bottom))))
    return pixels


class _Shades(NamedTuple):
    """How the numbers of a grey image of more than 8 bits are shown."""

    bits: int
    white_is_zero: bool

    @classmethod
    def of(cls, image: Image.Image) -> _Shades:
        tags = getattr(image, "tag_v2", {})
        (bits, *_) = tags.get(_BITS_PER_SAMPLE, (16,))
        return cls(bits, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _on_white(shown: Image.Image, is_opaque: bool) -> Image.Image:
    if shown.mode not in ("LA", "RGBA") or is_opaque:
        return shown if shown.mode == "RGB" else shown.convert("RGB")
    white = Image.new("RGBA", shown.size, "white")
    white.alpha_composite(shown.convert("RGBA"))
    return white.convert("RGB")


def _plain(image: Image.Image, shades: _Shades) -> Image.Image:
    """Return the image in one of _COLOUR_MODES."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _high_bytes(image, shades)
    if image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info:
        return image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    mode = _PLAIN_MODES.get(image.mode, image.mode)
    return (
        image
        if image.mode == mode in _COLOUR_MODES
        else image.convert(mode if mode in _COLOUR_MODES else "RGB")
    )


def _high_bytes(image: Image.Image, shades: _Shades) -> Image.Image:
    """Return a grey image of 9 to 16 bits in L, or in LA if one of its levels is transparent."""
    values: npt.NDArray[np.int64] = np.asarray(image).astype(np.int64)
    grey = (values >> (shades.bits - 8)).clip(0, 255).astype(np.uint8)
    plain = Image.fromarray(255 - grey if shades.white_is_zero else grey)
    level = image.info.get("transparency")
    if isinstance(level, int):
        plain.putalpha(Image.fromarray(np.where(values == level, 0, 255).astype(np.uint8)))
    return plain
