"""Perceptual hashes, and ids of equal pixels."""

from __future__ import annotations

from hashlib import sha256

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.media.pictures.decode import decode

HASH_SIDE = 16
"""Side of the square of DCT coefficients that are hashed; a hash has HASH_SIDE² bits."""
MIN_CONTRAST = 4.0
"""Standard deviation in grey levels below which an image has no hash: all such images would match."""


def decode_grey(image: bytes) -> npt.NDArray[np.uint8] | None:
    """Return an image in grey, uint8 (height, width), or None if it cannot be decoded."""
    grey = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if grey is None else np.asarray(grey, np.uint8)


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> bytes | None:
    """Return the 256-bit DCT hash of a grey image (pHash) as 32 bytes, or None for a flat image.

    Args:
        grey: uint8 (height, width).
    """
    if grey.std() < MIN_CONTRAST:
        return None
    # Area averaging to a fixed side first: imagehash resizes large images slowly.
    small = cv2.resize(grey, (8 * HASH_SIDE, 8 * HASH_SIDE), interpolation=cv2.INTER_AREA)
    bits = imagehash.phash(Image.fromarray(small), hash_size=HASH_SIDE).hash
    return np.packbits(bits.ravel()).tobytes()


def pixel_id(image: bytes) -> str | None:
    """Return 32 hex digits that files of equal pixels share, or None if it cannot be decoded.

    Bytes do not tell: a JPEG keeps its own, and the same pixels may be progressive or not.
    """
    pixels = decode(image)
    if pixels is None:
        return None
    digest = sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]
