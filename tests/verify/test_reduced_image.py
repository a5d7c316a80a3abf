"""Keypoints of an image and of its mirror image."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage import data

from curation.stages.verify.reduced_image import ReducedImage, reduce_image

from ..e2e.small import encoded


def test_mirrored_keypoints_equal_those_that_sift_finds_in_the_mirror_image() -> None:
    from PIL import Image

    photographs: Any = data  # skimage has no annotations
    small = reduce_image(encoded(Image.fromarray(photographs.astronaut())))
    assert small is not None
    image = ReducedImage.of(small)
    mirrored, sift = image.mirrored.keypoints, ReducedImage(image.mirrored.pixels).keypoints
    assert mirrored is not None and sift is not None
    (positions, descriptors), (sift_positions, sift_descriptors) = mirrored, sift
    distance = np.linalg.norm(positions[:, None] - sift_positions[None], axis=2)
    nearest, near = distance.argmin(axis=1), distance.min(axis=1) < 1
    assert near.mean() > 0.7
    difference = np.linalg.norm(descriptors[near] - sift_descriptors[nearest[near]], axis=1)
    # A position may have several keypoints with different directions. Descriptors of others differ
    # by 0.8 or more.
    assert np.median(difference) < 0.2
