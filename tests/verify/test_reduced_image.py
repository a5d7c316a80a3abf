"""Keypoints of an image and of its mirror image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from curation.stages.verify.reduced_image import (
    DESCRIPTOR_NORM,
    MAX_KEYPOINTS,
    ReducedImage,
    pack_keypoints,
    reduce_image,
)

from ..e2e.small import encoded


def test_mirrored_keypoints_equal_those_that_sift_finds_in_the_mirror_image() -> None:
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
    # by 0.8 of their length or more.
    assert np.median(difference) < 0.2 * DESCRIPTOR_NORM


@pytest.mark.parametrize("name", ["astronaut", "coins", "coffee"])
def test_stored_keypoints_are_those_of_sift(name: str) -> None:
    """They are stored in fewer bytes, and lose nothing."""
    small = reduce_image(encoded(Image.fromarray(getattr(data, name)()).convert("RGB")))
    assert small is not None
    image = ReducedImage.of(small)
    sift: Any = cv2.SIFT.create(nfeatures=MAX_KEYPOINTS, contrastThreshold=0.02)
    points, descriptors = sift.detectAndCompute(image.grey, None)
    root = np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-7))
    stored = ReducedImage.of(small, pack_keypoints(image.grey)).keypoints
    assert stored is not None
    np.testing.assert_array_equal(stored[0], np.array([p.pt for p in points], np.float32))
    np.testing.assert_array_equal(stored[1], np.rint(DESCRIPTOR_NORM * root.astype(np.float32)))


def test_an_image_without_texture_has_no_keypoints() -> None:
    flat = np.full((64, 64), 7, np.uint8)
    assert pack_keypoints(flat) == b""
    assert ReducedImage(np.dstack([flat] * 3), packed=b"").keypoints is None
