"""Colours of more than 8 bits in JPEG 2000: Pillow rounds them up, so that white becomes black."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from curation.media.pictures.pixels import Pixels
from curation.media.web.fetch_error import FetchError

_SIZE = b"\xff\x4f\xff\x51"
"""The first two markers of the image: its start, and the sizes of it and of its components."""
_COUNT_AT, _COMPONENT_BYTES = 40, 3
_WITHOUT_SIGN = 0x7F
_RGB_OF_BGR = {3: [2, 1, 0], 4: [2, 1, 0, 3]}


def in_eight_bits(image: Image.Image, content: bytes) -> Image.Image:
    """Return a loaded image; one in colours with the high bits of each.

    Args:
        image: opened by Pillow.
        content: the file.

    Raises:
        FetchError: `unsupported_format`: no decoder reads its components rightly.
    """
    image.load()
    bits = _bits(content)
    if image.mode == "I;16" or max(bits, default=8) <= 8:
        return image
    high = _high_bits(content, bits, (image.height, image.width))
    return Image.fromarray(high[:, :, _RGB_OF_BGR[len(bits)]])


def _high_bits(content: bytes, bits: list[int], size: tuple[int, int]) -> Pixels:
    """Return the high bits of components, in the order of OpenCV."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    is_known = values is not None and values.dtype == np.uint16 and len(set(bits)) == 1
    if values is None or not is_known or values.shape != (*size, len(bits)):
        raise FetchError("unsupported_format")
    high: Pixels = np.right_shift(values, bits[0] - 8).astype(np.uint8)
    return high


def _bits(content: bytes) -> list[int]:
    """Return the bits of each component."""
    at = content.find(_SIZE) + _COUNT_AT
    count, first = int.from_bytes(content[at : at + 2]), at + 2
    ends = first + count * _COMPONENT_BYTES
    return [(byte & _WITHOUT_SIGN) + 1 for byte in content[first:ends:_COMPONENT_BYTES]]
