"""Sharpness: the variance of the Laplacian, small for a blurred image."""

import cv2
import numpy as np

from curation.stages.screen.filters.base import Filter, Pair

SIDE = 256
"""Shorter side in pixels to which larger images are reduced first, so that scores are comparable."""


def score(pair: Pair) -> float:
    """Return the variance of the Laplacian of the grey values (Pech-Pacheco et al. 2000)."""
    grey, shorter_side = pair.grey, min(pair.grey.shape)
    if shorter_side > SIDE:
        size = [max(1, round(side * SIDE / shorter_side)) for side in grey.shape[::-1]]
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


FILTER = Filter(
    doc="Variance of the Laplacian of the grey values (Pech-Pacheco et al. 2000), at a shorter side of "
    "at most 256 pixels",
    unit="grey levels²",
    type="float",
    usual="at_least: 100 is common; check it on your own images",
    score=score,
)
