"""Shannon entropy of the grey values: 0 for a single value, at most 8."""

import numpy as np

from curation.stages.screen.filters.base import Filter, Pair


def score(pair: Pair) -> float:
    """Return the entropy in bits of the 256-bin histogram of grey values."""
    share = np.bincount(pair.grey.ravel(), minlength=256) / pair.grey.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


FILTER = Filter(
    doc="Shannon entropy of the grey values of the stored image, from 0 to 8",
    unit="bits",
    type="float",
    usual="at_least: 1 drops blank images and plain drawings; no published value",
    score=score,
)
