"""Images of any mode of Pillow to 8-bit RGB on white, as browsers show them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.media.pictures.colours import to_srgb
from curation.media.web.fetch_error import FetchError

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0
# Modes that colour profiles can be applied to, by other modes of the same colours.
_PLAIN_MODES = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "PA": "RGBA"}
_COLOUR_MODES = ("L", "LA", "RGB", "RGBA", "CMYK", "LAB")


def to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return a loaded image in sRGB, 8 bits, on a white page.

    Args:
        image: its first frame is taken.
        profile: ICC profile of the file.

    Raises:
        FetchError: `unsupported_format`: the file does not say which value is white.
    """
    shown = to_srgb(_plain(image), profile)
    if shown.mode in ("LA", "RGBA"):
        rgba = shown.convert("RGBA")
        if image.format == "BMP" and rgba.getchannel("A").getextrema() == (0, 0):
            # Writers that know no transparency leave its bytes at zero.
            return rgba.convert("RGB")
        white = Image.new("RGBA", rgba.size, "white")
        white.alpha_composite(rgba)
        return white.convert("RGB")
    return shown.convert("RGB")


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in one of _COLOUR_MODES."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _high_bytes(image)
    if image.mode in ("I", "F"):
        raise FetchError("unsupported_format")
    if image.mode in ("1", "L", "P", "RGB") and "transparency" in image.info:
        return image.convert("RGBA")
    mode = _PLAIN_MODES.get(image.mode, image.mode)
    return (
        image
        if image.mode == mode in _COLOUR_MODES
        else image.convert(mode if mode in _COLOUR_MODES else "RGB")
    )


def _high_bytes(image: Image.Image) -> Image.Image:
    """Return a grey image of 9 to 16 bits in L, or in LA if one of its levels is transparent."""
    values: npt.NDArray[np.int64] = np.asarray(image).astype(np.int64)
    tags = getattr(image, "tag_v2", {})
    (bits, *_) = tags.get(_BITS_PER_SAMPLE, (16,))
    grey = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    plain = Image.fromarray(grey)
    level = image.info.get("transparency")
    if isinstance(level, int):
        plain.putalpha(Image.fromarray(np.where(values == level, 0, 255).astype(np.uint8)))
    return plain
