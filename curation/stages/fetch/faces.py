"""Blurs faces before an image is stored: those that a list gives, and those that a detector finds.

As in Yang et al. (2022), "A Study of Face Obfuscation in ImageNet", section 3: each box is enlarged on
all sides by a tenth of its larger side, which is also the standard deviation of the Gaussian blur.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from curation.engine.shipped_files import local_path
from curation.errors import Detail, RecipeError
from curation.media.encoders.checksum import checked_sha256, compare_sha256
from curation.media.files.file_cache import cached_by_file
from curation.media.pictures.pixels import Pixels
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.detectors import DETECTORS
from curation.stages.fetch.params import FaceParams

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of width and height."""
BLUR_FRACTION = 0.1
"""Margin and standard deviation of the blur, as a fraction of the larger side of the box."""
DETECTION_SIDE = 640
"""Longer side in pixels of the image that a detector gets; smaller images are not enlarged."""
MIN_DETECTION_SIDE = 8
"""Shorter side in pixels of the image that a detector gets; in a narrower strip no face is seen."""
MAX_BOXES = 1000
"""Boxes of one image; more are refused."""
MAX_BLURRED_AREA = 8.0
"""Areas of all boxes of one image together, as a multiple of its area; more are refused."""
MAX_WEIGHTS_BYTES = 64 * 2**20
"""Bytes of a detector's network that are read; YuNet of OpenCV's model zoo has 0.2 million."""
MAX_SIGMA = 8.0
"""Standard deviation in pixels up to which the image itself is blurred; with a larger one, a smaller
copy is, since the time would grow with the third power of the side of the box."""
_ORIENTED: dict[int, Callable[[float, float], tuple[float, float]]] = {
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


def listed_boxes(faces: str | None, orientation: int) -> list[Box]:
    """Return the boxes that a list gives for an image that was turned upright.

    Lists do not say whether their boxes are for the file as stored or as displayed. If the two differ,
    both boxes are returned.

    Args:
        faces: boxes as JSON, as the table `pairs` has them.
        orientation: EXIF orientation of the file, 1 to 8.
    """
    boxes: list[Box] = [tuple(box) for box in json.loads(faces or "[]")]
    return boxes + [_oriented(box, orientation) for box in boxes if orientation in _ORIENTED]


def _oriented(box: Box, orientation: int) -> Box:
    orient = _ORIENTED[orientation]
    corners = [orient(box[0], box[1]), orient(box[2], box[3])]
    (x0, x1), (y0, y1) = sorted(c[0] for c in corners), sorted(c[1] for c in corners)
    return x0, y0, x1, y1


def check_boxes(boxes: Sequence[Box]) -> None:
    """Check that boxes are blurred in a short time.

    Raises:
        FetchError: `too_many_boxes`.
    """
    area = sum(max(x1 - x0, 0) * max(y1 - y0, 0) for x0, y0, x1, y1 in boxes)
    if len(boxes) > MAX_BOXES or area > MAX_BLURRED_AREA:
        raise FetchError("too_many_boxes")


def blur_boxes(image: Pixels, boxes: Sequence[Box]) -> Pixels:
    """Return a copy of an image, uint8 (height, width[, 3]), with blurred boxes."""
    out = image.copy()
    height, width = image.shape[:2]
    for left, top, right, bottom in boxes:
        size = max((right - left) * width, (bottom - top) * height)
        margin = BLUR_FRACTION * size
        x0, y0 = max(int(left * width - margin), 0), max(int(top * height - margin), 0)
        x1 = min(math.ceil(right * width + margin), width)
        y1 = min(math.ceil(bottom * height + margin), height)
        if size <= 0 or x1 <= x0 or y1 <= y0:
            continue
        sigma = max(margin, 1.0)
        reach = math.ceil(3 * sigma)
        outer_x, outer_y = max(x0 - reach, 0), max(y0 - reach, 0)
        blurred = _blurred(out[outer_y : y1 + reach, outer_x : x1 + reach], sigma)
        out[y0:y1, x0:x1] = blurred[y0 - outer_y : y1 - outer_y, x0 - outer_x : x1 - outer_x]
    return out


def _blurred(image: Pixels, sigma: float) -> Pixels:
    if sigma <= MAX_SIGMA:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))
    factor = sigma / MAX_SIGMA
    height, width = image.shape[:2]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), MAX_SIGMA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def find_faces(pixels: Pixels, params: FaceParams) -> list[Box]:
    """Return the faces that the recipe's detector finds in an image; none without a detector.

    Args:
        pixels: RGB, uint8 of shape (height, width, 3), or grey, (height, width).
        params: the detector and its weights.

    Raises:
        RecipeError: the weights of the detector are missing or invalid, or not those of the plan.
    """
    if params.detector is None:
        return []
    image = pixels
    scale = min(1.0, DETECTION_SIDE / max(image.shape[:2]))
    if scale < 1:
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    if min(image.shape[:2]) < MIN_DETECTION_SIDE:
        return []
    order = cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR
    image = np.asarray(cv2.cvtColor(image, order))
    height, width = image.shape[:2]
    weights = None if params.weights is None else _read_weights(params.weights, params.sha256)
    return [
        (x / width, y / height, (x + w) / width, (y + h) / height)
        for x, y, w, h in DETECTORS.load(params.detector).detect(image, weights, params.at_least)
    ]


def with_checksum(params: FaceParams) -> FaceParams:
    """Return the parameters with the SHA-256 of the weights, which each task then checks.

    Raises:
        RecipeError: the weights are missing, or have another SHA-256.
    """
    if params.weights is None:
        return params
    return params.model_copy(update={"sha256": checked_sha256(params.weights, params.sha256)})


@cached_by_file(lambda path, sha256: path, maxsize=2)
def _read_weights(path: str, sha256: str | None) -> bytes:
    """Return the weights of a detector, the very bytes whose SHA-256 was compared."""
    place = Path(local_path(path))
    if not place.is_file():
        fix = "Name the file with the weights of a face detector"
        raise RecipeError(
            Detail(f"there is no file {path!r}", "fetch.faces.weights", path, fix=fix)
        )
    with place.open("rb") as file:
        content = file.read(MAX_WEIGHTS_BYTES + 1)
    if len(content) > MAX_WEIGHTS_BYTES:
        raise RecipeError(
            f"fetch.faces.weights: {path!r} has more than {MAX_WEIGHTS_BYTES:,} bytes",
            fix="Name the file with the weights of a face detector, which is smaller",
        )
    compare_sha256(path, hashlib.sha256(content).hexdigest(), sha256)
    return content
