"""Ways in which one picture may lie upon another: found by keypoints, or the whole upon the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curation.stages.verify.picture import Picture

RATIO = 0.85
"""A keypoint's match counts if it is that much nearer than the second (Lowe 2004, section 7.1)."""
REPROJECTION = 3.0
"""Pixels by which a match may miss the transform."""
LARGEST_ZOOM = 10.0
"""In area."""

Affine = npt.NDArray[np.float64]
"""(2, 3): where a pixel of the other picture lies in this one."""


def by_keypoints(this: Picture, other: Picture) -> Affine | None:
    """Return the affine map that most matched keypoints agree on (RANSAC), or None."""
    mine, theirs = this.keypoints, other.keypoints
    if mine is None or theirs is None:
        return None
    matches = cv2.BFMatcher().knnMatch(theirs[1], mine[1], k=2)
    good = [m[0] for m in matches if len(m) == 2 and m[0].distance < RATIO * m[1].distance]
    if len(good) < 4:
        return None
    source = theirs[0][[m.queryIdx for m in good]]
    target = mine[0][[m.trainIdx for m in good]]
    # None where no three matches agree, which the stubs do not know.
    found: Any = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION, maxIters=1000
    )[0]
    if found is None:
        return None
    zoom = abs(float(np.linalg.det(found[:, :2])))
    if not 1 / LARGEST_ZOOM < zoom < LARGEST_ZOOM:
        return None
    return np.asarray(found, dtype=np.float64)


def by_frames(this: Picture, other: Picture) -> Iterator[Affine]:
    """Yield the maps of the whole other picture upon the whole of this one: as it stands, then turned
    by quarters."""
    height, width = this.grey.shape
    high, wide = other.grey.shape
    yield np.array([[width / wide, 0, 0], [0, height / high, 0]])
    yield np.array([[0, -width / high, width], [height / wide, 0, 0]])
    yield np.array([[-width / wide, 0, width], [0, -height / high, height]])
    yield np.array([[0, width / high, 0], [-height / wide, 0, height]])
