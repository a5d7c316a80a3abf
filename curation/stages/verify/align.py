"""Ways to lay one image upon another: by matched keypoints, or by the whole frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curation.stages.verify.blocks import Floats
from curation.stages.verify.reduced_image import ReducedImage

MATCH_RATIO = 0.85
"""A keypoint matches its nearest one if that is closer than this ratio of the second nearest (Lowe
2004, section 7.1)."""
REPROJECTION_ERROR = 3.0
"""Pixels by which a match may miss the map."""
MAX_AREA_RATIO = 10.0
"""Largest ratio of areas that a map may have, in either direction."""

Positions = npt.NDArray[np.intp]
Affine = npt.NDArray[np.float64]
"""Map from pixels (x, y) of the other image to pixels of this one, shape (2, 3)."""


def align_keypoints(this: ReducedImage, other: ReducedImage) -> Affine | None:
    """Return the affine map that most matched keypoints agree on (RANSAC).

    Returns:
        None if there are too few matches, or the map changes the area too much.
    """
    if this.keypoints is None or other.keypoints is None:
        return None
    matched, nearest = match_keypoints(other.keypoints[1], this.keypoints[1])
    if len(matched) < 4:
        return None
    source = other.keypoints[0][matched]
    target = this.keypoints[0][nearest]
    # OpenCV returns None if no three matches agree, which its type stubs do not say.
    affine: Any = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION_ERROR, maxIters=1000
    )[0]
    if affine is None:
        return None
    area_ratio = abs(float(np.linalg.det(affine[:, :2])))
    if not 1 / MAX_AREA_RATIO < area_ratio < MAX_AREA_RATIO:
        return None
    return np.asarray(affine, dtype=np.float64)


def match_keypoints(queries: Floats, candidates: Floats) -> tuple[Positions, Positions]:
    """Return the keypoints whose nearest candidate is much closer than the second nearest.

    Descriptors hold whole numbers and have squares that add up to less than 2^24, so that all sums here
    are exact in float32, whatever the order in which a processor adds.

    Args:
        queries: descriptors of shape (m, 128).
        candidates: descriptors of shape (n, 128), at least two.

    Returns:
        Positions in `queries`, and for each of them the position of its nearest candidate.
    """
    rows = np.arange(len(queries))
    # The larger, the nearer: 2qc - c² is q² less the squared distance.
    closeness = 2 * (queries @ candidates.T) - (candidates**2).sum(axis=1)
    nearest = closeness.argmax(axis=1)
    first = closeness[rows, nearest]
    closeness[rows, nearest] = -np.inf
    squared = (queries**2).sum(axis=1)
    distances = np.stack([squared - first, squared - closeness.max(axis=1)]).astype(np.float64)
    matched = np.flatnonzero(distances[0] < MATCH_RATIO**2 * distances[1])
    return matched, nearest[matched]


def align_frames(this: ReducedImage, other: ReducedImage) -> Iterator[Affine]:
    """Yield the maps of the whole other image to the whole of this one, in four quarter turns."""
    height, width = this.grey.shape
    other_height, other_width = other.grey.shape
    yield np.array([[width / other_width, 0, 0], [0, height / other_height, 0]])
    yield np.array([[0, -width / other_height, width], [height / other_width, 0, 0]])
    yield np.array([[-width / other_width, 0, width], [0, -height / other_height, height]])
    yield np.array([[0, width / other_height, 0], [-height / other_width, 0, height]])
