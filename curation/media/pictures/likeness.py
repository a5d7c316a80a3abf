"""Pictures that look like one that was taken down, by their perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence

from curation.media.pictures.hashes import decode_grey, perceptual_hash
from curation.store.tombstones import Likeness


def likeness(image: bytes, within: int) -> Likeness | None:
    """Return what stands for a picture in a tombstone; None if it cannot be decoded or is flat."""
    hashed = _hash_of(image)
    return None if hashed is None else Likeness(hashed.hex(), within)


def looks_like(image: bytes, likes: Sequence[Likeness]) -> bool:
    """Whether a picture looks like one of some pictures."""
    hashed = _hash_of(image) if likes else None
    return hashed is not None and is_near(hashed, likes)


def is_near(phash: bytes, likes: Sequence[Likeness]) -> bool:
    """Whether a perceptual hash is near that of one of some pictures."""
    number = int.from_bytes(phash)
    return any((number ^ int(like.phash, 16)).bit_count() <= like.within for like in likes)


def _hash_of(image: bytes) -> bytes | None:
    grey = decode_grey(image)
    return None if grey is None else perceptual_hash(grey)
