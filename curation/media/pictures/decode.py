"""Stored images to pixels."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image

from curation.media.pictures.pixels import Pixels

MAX_JPEG_PIXELS = 2**28
"""Pixels up to which a JPEG is decoded without Pillow and its own limit."""


def decode(image: bytes) -> Pixels | None:
    """Return a stored image in RGB, uint8 (height, width, 3), or None if it cannot be decoded."""
    try:
        return _decode_jpeg(image)
    except ValueError:
        # Another format, a colour space or sampling that only Pillow supports, or a damaged file.
        try:
            with Image.open(io.BytesIO(image)) as picture:
                return np.array(picture.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError):
            return None


def _decode_jpeg(image: bytes) -> Pixels:
    """Return the same pixels as Pillow, in less time.

    Raises:
        ValueError: Pillow must decode the image.
    """
    height, width, space, _ = simplejpeg.decode_jpeg_header(image)
    if space not in ("YCbCr", "RGB", "Gray") or height * width > MAX_JPEG_PIXELS:
        raise ValueError(space)
    pixels: Pixels = simplejpeg.decode_jpeg(image, "RGB")
    return pixels
