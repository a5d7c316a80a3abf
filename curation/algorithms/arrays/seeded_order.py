"""Seeded random orders of images that depend on their ids alone, never on their positions.

So they are the same however the pool is split into fragments.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.store.digest import digest

IDS_AT_ONCE = 2**20
"""Ids whose numbers are computed at once, at about 150 bytes each."""


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of splitmix64 (Steele, Lea and Flood 2014) of each value."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def seeded_keys(image_ids: npt.NDArray[np.bytes_], *salt: object) -> npt.NDArray[np.uint64]:
    """Return one pseudo-random number for each image, the same for the same id and salt.

    Args:
        image_ids: shape (n,), dtype S32: 32 hex digits of a cryptographic hash.
        salt: distinguishes one order from another, such as the recipe's seed and the name of an arm.

    Returns:
        Shape (n,), dtype uint64.
    """
    keys = np.empty(len(image_ids), dtype=np.uint64)
    salted_with = np.uint64(int(digest([str(s) for s in salt], 16), 16))
    for start in range(0, len(keys), IDS_AT_ONCE):
        part = slice(start, start + IDS_AT_ONCE)
        digits = image_ids[part].astype("S32").tobytes()
        halves = np.frombuffer(bytes.fromhex(digits.decode()), dtype=">u8").astype(np.uint64)
        keys[part] = _mix(_mix(halves[::2] ^ salted_with) ^ halves[1::2])
    return keys


def seeded_order(image_ids: npt.NDArray[np.bytes_], *salt: object) -> npt.NDArray[np.int64]:
    """Return the permutation (n,) that sorts images by `seeded_keys`; equal keys by image id."""
    return np.lexsort((image_ids, seeded_keys(image_ids, *salt)))
