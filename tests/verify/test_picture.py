"""Keypoints of a picture and of its mirror image."""

from __future__ import annotations

import numpy as np
from skimage import data

from curation.stages.verify.picture import Picture, reduced

from ..e2e.small import encoded


def test_keypoints_of_a_mirror_image_are_those_that_sift_finds_in_it():
    from PIL import Image

    small = reduced(encoded(Image.fromarray(data.astronaut())))
    picture = Picture.of(small)
    places, vectors = picture.mirrored.keypoints
    own_places, own_vectors = Picture(picture.mirrored.pixels).keypoints
    distance = np.linalg.norm(places[:, None] - own_places[None], axis=2)
    nearest, near = distance.argmin(axis=1), distance.min(axis=1) < 1
    assert near.mean() > 0.7
    unlike = np.linalg.norm(vectors[near] - own_vectors[nearest[near]], axis=1)
    # A keypoint may have several directions at one place; others are 0.8 apart and more.
    assert np.median(unlike) < 0.2
