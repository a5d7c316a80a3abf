"""Matched keypoints are those of a search of all pairs, and exact on any processor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from skimage import data

from curation.stages.verify.align import MATCH_RATIO, match_keypoints
from curation.stages.verify.reduced_image import DESCRIPTOR_NORM, ReducedImage, reduce_image

from ..e2e.small import encoded


def descriptors_of(name: str, turned: float) -> npt.NDArray[np.float32]:
    """The descriptors of a photograph, turned by some degrees."""
    photograph = Image.fromarray(getattr(data, name)()).convert("RGB").rotate(turned)
    small = reduce_image(encoded(photograph))
    assert small is not None
    keypoints = ReducedImage.of(small).keypoints
    assert keypoints is not None
    return keypoints[1]


def all_pairs(
    queries: npt.NDArray[np.float32], candidates: npt.NDArray[np.float32]
) -> list[tuple[int, int]]:
    """Matches by whole numbers of any size, one pair after the other."""
    matches = []
    for number, query in enumerate(queries.astype(np.int64)):
        squared = ((query - candidates.astype(np.int64)) ** 2).sum(axis=1)
        first, second = np.argsort(squared, kind="stable")[:2].tolist()
        if squared[first] < MATCH_RATIO**2 * squared[second]:
            matches.append((number, first))
    return matches


@pytest.mark.parametrize("turned", [0, 7, 90])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_matches_are_those_of_all_pairs(name: str, turned: float) -> None:
    queries, candidates = descriptors_of(name, turned), descriptors_of(name, 0)
    # Of two equal candidates none is much closer.
    candidates = np.concatenate([candidates, candidates[:20]])
    matched, nearest = match_keypoints(queries, candidates)
    found = list(zip(matched.tolist(), nearest.tolist(), strict=True))
    assert found and found == all_pairs(queries, candidates)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_products_of_descriptors_are_exact_in_float32(name: str) -> None:
    descriptors = descriptors_of(name, 0)
    assert np.array_equal(descriptors, np.rint(descriptors))
    squared = (descriptors.astype(np.float64) ** 2).sum(axis=1)
    assert squared.max() < 2**24 and squared.min() > (0.99 * DESCRIPTOR_NORM) ** 2
    exact = descriptors.astype(np.int64) @ descriptors.T.astype(np.int64)
    np.testing.assert_array_equal(descriptors @ descriptors.T, exact)
