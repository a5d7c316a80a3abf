"""How colourful the picture seems to people: 0 for grey."""

import numpy as np

from curation.stages.screen.filters.base import Filter, Pair


def score(pair: Pair) -> float | None:
    """Return the metric M3 of Hasler and Süsstrunk (2003, section 6)."""
    if pair.colour is None:
        return None
    blue, green, red = np.moveaxis(pair.colour.astype(np.float32), 2, 0)
    against, also = red - green, (red + green) / 2 - blue
    spread = np.hypot(against.std(dtype=np.float64), also.std(dtype=np.float64))
    middle = np.hypot(against.mean(dtype=np.float64), also.mean(dtype=np.float64))
    return float(spread + 0.3 * middle)


FILTER = Filter(
    doc="Colourfulness of the stored picture (Hasler and Süsstrunk 2003, M3)",
    unit="",
    type="float",
    usual="their subjects called 15 slightly, 33 moderately, 59 quite, 109 extremely colourful",
    score=score,
)
