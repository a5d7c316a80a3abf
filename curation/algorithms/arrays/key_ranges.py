"""Sorted keys in ranges that stay the same when keys are added elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def key_ranges(keys: npt.NDArray[Any], limit: int) -> list[slice]:
    """Cut sorted keys into ranges of at most `limit` keys.

    A range that is too long is cut by the first bit in which its keys differ. So a cut depends on the
    keys of its range alone, and added keys change only the ranges that they fall into.

    Args:
        keys: distinct byte strings of equal length, sorted, shape (n,), dtype S.
        limit: largest number of keys of a range, at least 1.

    Returns:
        The ranges, in order.

    Examples:
        >>> key_ranges(np.array([b"a", b"b", b"c"]), 2)
        [slice(0, 1, None), slice(1, 3, None)]
    """
    octets = np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), keys.dtype.itemsize)
    ranges, waiting = [], [(0, len(keys), 0)] if len(keys) else []
    while waiting:
        low, high, bit = waiting.pop()
        if high - low <= limit:
            ranges.append(slice(low, high))
            continue
        bits = octets[low:high, bit // 8] >> (7 - bit % 8) & 1
        cut = low + int(np.searchsorted(bits, 1))
        parts = [(low, cut, bit + 1), (cut, high, bit + 1)]
        waiting += [part for part in reversed(parts) if part[0] < part[1]]
    return ranges
