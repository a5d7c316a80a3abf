"""Colourfulness as people perceive it: 0 for a grey image."""

import numpy as np

from curation.stages.screen.filters.base import Filter, Pair


def score(pair: Pair) -> float | None:
    """Return the metric M3 of Hasler and Süsstrunk (2003, section 6)."""
    if pair.colour is None:
        return None
    blue, green, red = np.moveaxis(pair.colour.astype(np.float32), 2, 0)
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    deviation = np.hypot(red_green.std(dtype=np.float64), yellow_blue.std(dtype=np.float64))
    mean = np.hypot(red_green.mean(dtype=np.float64), yellow_blue.mean(dtype=np.float64))
    return float(deviation + 0.3 * mean)


FILTER = Filter(
    doc="Colourfulness of the stored image (Hasler and Süsstrunk 2003, M3)",
    unit="",
    type="float",
    usual="in their study, 15 is slightly, 33 moderately, 59 quite and 109 extremely colourful",
    score=score,
)
