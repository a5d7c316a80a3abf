"""A plug-in with one filter: the share of red in an image.

A recipe names this file under `plugins`, and then the filter like any other:

    plugins: [examples/redness.py]
    screen: {filters: [min_side, redness]}
    select: {redness: {at_least: 0.33}}
"""

import numpy as np

from curation.stages.screen.filters import FilterEntry
from curation.stages.screen.filters.base import Filter, Pair


def redness(pair: Pair) -> float | None:
    """Return the mean of the red channel over the sum of the means of all three, 0 to 1."""
    colour = pair.colour
    if colour is None:
        return None
    blue, green, red = (float(mean) for mean in np.mean(colour, axis=(0, 1)))
    return red / max(blue + green + red, 1.0)


FILTER = Filter(
    doc="Mean of the red channel over the sum of the three means",
    unit="share",
    type="float",
    usual="at_least: 0.33 takes mostly red images; no published value",
    score=redness,
)
FILTERS = {"redness": FilterEntry(module=__name__)}
