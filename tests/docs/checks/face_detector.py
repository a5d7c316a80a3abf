"""The detector finds the face of a photograph, and none in an image without one."""

import numpy as np
from skimage import data

from curation.stages.fetch.faces import find_faces
from tests.docs.checks.common import recipe_with

params = recipe_with(fetch={"faces": {"detector": "haar_profile"}}).fetch.faces


def boxes(image):
    return find_faces(image, params)


(box,) = boxes(data.astronaut())
left, top, right, bottom = np.array(box) * 512
assert left < 252 < right and top < 115 < bottom, box
assert boxes(np.zeros((200, 300, 3), np.uint8)) == []
