"""The detector finds the face of a photograph, and none in an image without one."""

from __future__ import annotations

from typing import Any

import numpy as np
from skimage import data

from curation.stages.fetch.faces import Box, find_faces
from tests.docs.checks.common import recipe_with

params = recipe_with(fetch={"faces": {"detector": "haar_profile"}}).fetch.faces


def boxes(image: np.ndarray) -> list[Box]:
    return find_faces(image, params)


photographs: Any = data  # skimage has no annotations
(box,) = boxes(photographs.astronaut())
left, top, right, bottom = np.array(box) * 512
assert left < 252 < right and top < 115 < bottom, box
assert boxes(np.zeros((200, 300, 3), np.uint8)) == []
