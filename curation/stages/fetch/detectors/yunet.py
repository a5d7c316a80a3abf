"""YuNet, a small network (Wu, Peng and Yu 2023), from a file of OpenCV's model zoo."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curation.errors import RecipeError


def detect(
    image: npt.NDArray[np.uint8], weights: bytes | None, at_least: float
) -> list[tuple[float, ...]]:
    """Return a box (x, y, width, height) in pixels for each face.

    Args:
        image: uint8 (height, width, 3), BGR.
        weights: the network, as the file has it.
        at_least: smallest confidence of a face, from 0 to 1.

    Raises:
        RecipeError: the file is not a YuNet network.
    """
    detector = _network(weights or b"", at_least)
    detector.setInputSize((image.shape[1], image.shape[0]))
    rows = detector.detect(image)[1]
    return [] if rows is None else [tuple(float(v) for v in row[:4]) for row in rows]


@lru_cache(maxsize=2)
def _network(weights: bytes, at_least: float) -> Any:
    # A graph that is read from memory cannot name other files.
    content = np.frombuffer(weights, np.uint8)
    try:
        return cv2.FaceDetectorYN.create(
            "onnx", content, np.empty(0, np.uint8), (320, 320), at_least
        )
    except cv2.error as error:
        raise RecipeError(
            f"fetch.faces.weights: OpenCV cannot read the file as a YuNet network ({error})",
            fix="Download face_detection_yunet_2023mar.onnx from OpenCV's model zoo",
        ) from error
