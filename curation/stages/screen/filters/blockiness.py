"""Blockiness: how visible the borders of JPEG blocks are."""

import numpy as np

from curation.stages.screen.filters.base import Filter, Pair

BLOCK = 8


def score(pair: Pair) -> float | None:
    """Return the mean difference of neighbouring pixels across block borders, over that within."""
    if min(pair.grey.shape) < 2 * BLOCK:
        return None
    across = within = 0.0
    for grey in (pair.grey, pair.grey.T):
        differences = np.abs(np.diff(grey.astype(np.int16), axis=1)).mean(axis=0, dtype=np.float64)
        is_border = np.arange(1, len(differences) + 1) % BLOCK == 0
        across += float(differences[is_border].mean())
        within += float(differences[~is_border].mean())
    return across / within if within else None


FILTER = Filter(
    doc="Mean difference of neighbouring pixels across the borders of 8 × 8 blocks, divided by that of "
    "other neighbours (after Wang, Sheikh and Bovik 2002); 1 if no blocks are visible. Resizing in "
    "fetch removes the blocks of the original",
    unit="ratio",
    type="float",
    usual="at_most: 2 drops JPEGs of very low quality; no published value",
    score=score,
)
