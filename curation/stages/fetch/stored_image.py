"""Makes the image that is stored: smaller, with blurred faces, as JPEG.

The sizes, the arithmetic and the bytes are those of img2dataset's resizer (a test compares them). The
resizer itself decodes files, without a word about damage; here the pixels are decoded already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from curation.media.pictures.pixels import Pixels
from curation.media.pictures.upright import UprightImage
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.faces import Box, blur_boxes
from curation.stages.fetch.params import FetchParams, Resize

MAX_SIDE = 65_500
"""Longest side in pixels that libjpeg encodes."""
_LARGEST_BYTES, _HEAD_BYTES, _BLOCK = 3, 2048, 16
"""What libjpeg-turbo needs at most for a pixel with colours at half the resolution, and for the head of
a file; and the sides of the blocks to which it fills an image up (tjBufSize)."""


class StoredImage(NamedTuple):
    """A stored image: a JPEG file, and its size in pixels."""

    content: bytes
    width: int
    height: int


def store_image(image: UprightImage, faces: Sequence[Box], params: FetchParams) -> StoredImage:
    """Return the stored image; a JPEG that needs no change keeps its bytes.

    Raises:
        FetchError: `undecodable`: the image is too large for a JPEG.
    """
    scale = _scale(image, params.resize)
    if image.original is not None and scale == 1 and not faces:
        return StoredImage(image.original, image.width, image.height)
    pixels = image.pixels
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    if faces:
        pixels = blur_boxes(pixels, faces)
    if scale < 1 and params.resize.mode == "center_crop":
        pixels = _centre(pixels, params.resize.size)
    height, width = pixels.shape[:2]
    return StoredImage(_encode(pixels, params.quality), width, height)


def most_bytes(params: FetchParams) -> int:
    """Return how many bytes an image has at most that is stored as a new JPEG."""
    resize, pixels = params.resize, params.max_pixels
    if resize.mode == "keep_ratio_largest":
        pixels = min(pixels, resize.size**2)
    elif resize.mode != "no":
        pixels = min(pixels, resize.size * MAX_SIDE)
    filled_up = pixels + 2 * _BLOCK * MAX_SIDE
    return _LARGEST_BYTES * filled_up + _HEAD_BYTES


def _scale(image: UprightImage, resize: Resize) -> float:
    if resize.mode == "no":
        return 1.0
    is_largest = resize.mode == "keep_ratio_largest"
    side = (max if is_largest else min)(image.width, image.height)
    return min(1.0, resize.size / side)


def _centre(pixels: Pixels, side: int) -> Pixels:
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


def _encode(pixels: Pixels, quality: int) -> bytes:
    if max(pixels.shape) > MAX_SIDE:
        raise FetchError("undecodable")
    bgr = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded.tobytes())
