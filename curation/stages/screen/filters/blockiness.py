"""How much the edges of JPEG's blocks show in the stored picture."""

import numpy as np

from curation.stages.screen.filters.base import Filter, Pair

BLOCK = 8


def score(pair: Pair) -> float | None:
    """Return the mean step between neighbours across edges of blocks over that within blocks."""
    if min(pair.grey.shape) < 2 * BLOCK:
        return None
    across = within = 0.0
    for grey in (pair.grey, pair.grey.T):
        steps = np.abs(np.diff(grey.astype(np.int16), axis=1)).mean(axis=0, dtype=np.float64)
        edge = np.arange(1, len(steps) + 1) % BLOCK == 0
        across += float(steps[edge].mean())
        within += float(steps[~edge].mean())
    return across / within if within else None


FILTER = Filter(
    doc="Mean difference of neighbours across the edges of 8 × 8 blocks over that of other neighbours "
    "(after Wang, Sheikh and Bovik 2002); 1 where blocks do not show. Of pictures that fetch resized, "
    "the original's blocks are gone",
    unit="ratio",
    type="float",
    usual="at_most: 2 drops very coarse JPEGs; no published value",
    score=score,
)
