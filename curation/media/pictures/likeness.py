"""Pictures that look like one that was taken down, by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from curation.media.pictures.hashes import decode_grey, perceptual_hash
from curation.store.tombstones import Likeness


def likeness(pixels: npt.NDArray[np.uint8], within: int) -> Likeness | None:
    """Return what stands for a picture in a tombstone; None if it is flat.

    Args:
        pixels: RGB, uint8, (height, width, 3).
        within: bits in which the hash of a picture that looks like it may differ.
    """
    hashed = perceptual_hash(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8))
    return None if hashed is None else Likeness(hashed.hex(), within)


def looks_like(image: bytes, likes: Sequence[Likeness]) -> bool:
    """Whether a stored picture looks like one of some pictures."""
    hashed = _hash_of(image) if likes else None
    return hashed is not None and is_near(hashed, likes)


def is_near(phash: bytes, likes: Sequence[Likeness]) -> bool:
    """Whether a perceptual hash is near that of one of some pictures."""
    number = int.from_bytes(phash)
    return any((number ^ int(like.phash, 16)).bit_count() <= like.within for like in likes)


def _hash_of(image: bytes) -> bytes | None:
    grey = decode_grey(image)
    return None if grey is None else perceptual_hash(grey)
