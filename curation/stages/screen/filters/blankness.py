"""Blankness: the share of pixels with about the same grey value."""

import numpy as np

from curation.stages.screen.filters.base import Filter, Pair

TOLERANCE = 2
"""Grey levels by which a pixel may differ from the most common value."""


def score(pair: Pair) -> float:
    """Return the share of pixels whose grey value is near the most common one."""
    counts = np.bincount(pair.grey.ravel(), minlength=256)
    mode = int(counts.argmax())
    near_mode = counts[max(0, mode - TOLERANCE) : mode + TOLERANCE + 1]
    return float(near_mode.sum() / pair.grey.size)


FILTER = Filter(
    doc="Share of pixels of the stored image within 2 grey levels of the most common grey value",
    unit="share",
    type="float",
    usual="at_most: 0.95 drops blank images and placeholders; no published value",
    score=score,
)
