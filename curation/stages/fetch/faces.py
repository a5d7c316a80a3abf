"""Faces are blurred before a picture is stored: those the list knows of, and those a detector finds.

Gaussian blur with a tenth of the larger side of a box, a tenth of which is added all round, as in
Yang et al. (2022), "A Study of Face Obfuscation in ImageNet", section 3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from curation.stages.fetch.detectors import DETECTORS
from curation.stages.fetch.params import FaceParams

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in parts of width and height."""
PART = 0.1
LARGEST = 640
"""Pixels of the longer side at which faces are looked for."""
_TURNED: dict[int, Callable[[float, float], tuple[float, float]]] = {
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


def boxes_of(listed: str | None, turn: int) -> list[Box]:
    """Return the boxes of a list's row for a picture that was turned upright.

    Lists do not say whether their boxes are those of the file or of what people see, so where the two
    differ both are meant.

    Args:
        listed: JSON as `pairs` have it.
        turn: EXIF orientation of the file, 1 to 8.
    """
    boxes: list[Box] = [tuple(box) for box in json.loads(listed or "[]")]
    return boxes + [_turned(box, turn) for box in boxes if turn in _TURNED]


def _turned(box: Box, turn: int) -> Box:
    ends = [_TURNED[turn](box[0], box[1]), _TURNED[turn](box[2], box[3])]
    (x0, x1), (y0, y1) = sorted(e[0] for e in ends), sorted(e[1] for e in ends)
    return x0, y0, x1, y1


def blurred(image: Pixels, boxes: Sequence[Box]) -> Pixels:
    """Return a picture (height, width[, 3]) with boxes blurred."""
    out = image.copy()
    height, width = image.shape[:2]
    for left, top, right, bottom in boxes:
        size = max((right - left) * width, (bottom - top) * height)
        x0, y0 = int(left * width - PART * size), int(top * height - PART * size)
        x1, y1 = (
            math.ceil(right * width + PART * size),
            math.ceil(bottom * height + PART * size),
        )
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if size <= 0 or x1 <= x0 or y1 <= y0:
            continue
        sigma = max(PART * size, 1.0)
        around = math.ceil(3 * sigma)
        wide = out[max(y0 - around, 0) : y1 + around, max(x0 - around, 0) : x1 + around]
        soft = cv2.GaussianBlur(wide, (0, 0), sigma)
        own = soft[y0 - max(y0 - around, 0) :, x0 - max(x0 - around, 0) :]
        out[y0:y1, x0:x1] = own[: y1 - y0, : x1 - x0]
    return out


def find_faces(encoded: bytes, params: FaceParams) -> list[Box]:
    """Return the faces that the recipe's detector sees in an encoded picture; none without one.

    Raises:
        RecipeError: the detector's weights are missing or wrong.
    """
    if params.detector is None:
        return []
    found = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if found is None:
        return []
    image: Pixels = np.asarray(found)
    scale = min(1.0, LARGEST / max(image.shape[:2]))
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    height, width = image.shape[:2]
    return [
        (x / width, y / height, (x + w) / width, (y + h) / height)
        for x, y, w, h in DETECTORS.load(params.detector).detect(
            image, params.weights, params.at_least
        )
    ]
