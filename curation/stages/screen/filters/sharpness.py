"""How sharp the picture is: the variance of its Laplacian, small where it is blurred."""

import cv2
import numpy as np

from curation.stages.screen.filters.base import Filter, Pair

SIDE = 256
"""Shorter side at which pictures are compared; a larger picture is reduced to it first."""


def score(pair: Pair) -> float:
    """Return the variance of the Laplacian of the grey values."""
    grey, shorter = pair.grey, min(pair.grey.shape)
    if shorter > SIDE:
        size = [max(1, round(side * SIDE / shorter)) for side in grey.shape[::-1]]
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


FILTER = Filter(
    doc="Variance of the Laplacian of the grey values (Pech-Pacheco et al. 2000), shorter side at most "
    "256 px",
    unit="grey levels²",
    type="float",
    usual="at_least: 100 is often taken; look at your own pictures first",
    score=score,
)
