"""Stored pictures to pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

if TYPE_CHECKING:
    pass

MOST = 2**28
"""Pixels of a JPEG that are decoded without Pillow's own bound."""


Pixels = npt.NDArray[np.uint8]


def decode(image: bytes) -> Pixels | None:
    """Return a stored image as RGB, uint8 (height, width, 3), or None where it cannot be decoded."""
    try:
        return _decoded_jpeg(image)
    except ValueError:
        # Another format, a colour space or sampling that only Pillow knows, or damage.
        try:
            with Image.open(io.BytesIO(image)) as picture:
                return np.array(picture.convert("RGB"))
        except (OSError, ValueError, Image.DecompressionBombError):
            return None


def _decoded_jpeg(image: bytes) -> Pixels:
    """Return the same bits as Pillow does, in less time; raises ValueError for what it leaves to it."""
    height, width, space, _ = simplejpeg.decode_jpeg_header(image)
    if space not in ("YCbCr", "RGB", "Gray") or height * width > MOST:
        raise ValueError(space)
    found: Pixels = simplejpeg.decode_jpeg(image, "RGB")
    return found
