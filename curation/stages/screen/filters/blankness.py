"""How blank the picture is: the share of it that has one grey."""

import numpy as np

from curation.stages.screen.filters.base import Filter, Pair

NEAR = 2
"""Grey levels by which a pixel may differ from the most common one."""


def score(pair: Pair) -> float:
    """Return the share of pixels of about the most common grey value."""
    counts = np.bincount(pair.grey.ravel(), minlength=256)
    most = int(counts.argmax())
    return float(counts[max(0, most - NEAR) : most + NEAR + 1].sum() / pair.grey.size)


FILTER = Filter(
    doc="Share of the stored picture whose grey differs from the most common one by at most 2 levels",
    unit="share",
    type="float",
    usual="at_most: 0.95 drops blanks and placeholders; no published value",
    score=score,
)
