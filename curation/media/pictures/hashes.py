"""Perceptual hashes."""

from __future__ import annotations

import cv2
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

HASH_SIDE = 16


# A picture flatter than this has no structure to hash: all such pictures would seem copies.
FLAT = 4.0


def decode_grey(image: bytes) -> npt.NDArray[np.uint8] | None:
    """Return the picture in grey, uint8 (height, width), or None where it cannot be decoded."""
    found = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if found is None else np.asarray(found, np.uint8)


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> bytes | None:
    """Return the 256-bit DCT hash of a grey picture as 32 bytes; None for a flat one."""
    if grey.std() < FLAT:
        return None
    # Area averaging to a fixed side first: the hash's own resize of a large picture is slow.
    small = cv2.resize(grey, (8 * HASH_SIDE, 8 * HASH_SIDE), interpolation=cv2.INTER_AREA)
    found = imagehash.phash(Image.fromarray(small), hash_size=HASH_SIDE)
    return np.packbits(found.hash.ravel()).tobytes()
