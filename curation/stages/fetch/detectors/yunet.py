"""YuNet, a small network (Wu, Peng and Yu 2023), from a file of OpenCV's model zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curation.errors import RecipeError
from curation.media.files.file_cache import cached_by_file

MAX_BYTES = 64 * 2**20
"""Bytes of a network that are read; that of OpenCV's model zoo has 0.2 million."""


def detect(
    image: npt.NDArray[np.uint8], weights: str | None, at_least: float
) -> list[tuple[float, ...]]:
    """Return a box (x, y, width, height) in pixels for each face.

    Args:
        image: uint8 (height, width, 3), BGR.
        weights: path of the network.
        at_least: smallest confidence of a face, from 0 to 1.

    Raises:
        RecipeError: the file is not a YuNet network.
    """
    detector = _network(weights or "", at_least)
    detector.setInputSize((image.shape[1], image.shape[0]))
    rows = detector.detect(image)[1]
    return [] if rows is None else [tuple(float(v) for v in row[:4]) for row in rows]


@cached_by_file(lambda weights, at_least: weights, maxsize=2)
def _network(weights: str, at_least: float) -> Any:
    try:
        # A graph that is read from memory cannot name other files.
        with Path(weights).open("rb") as file:
            content = np.frombuffer(file.read(MAX_BYTES), np.uint8)
        return cv2.FaceDetectorYN.create(
            "onnx", content, np.empty(0, np.uint8), (320, 320), at_least
        )
    except cv2.error as error:
        raise RecipeError(
            f"fetch.faces.weights: OpenCV cannot read {weights!r} as a YuNet network ({error}). "
            "Download face_detection_yunet_2023mar.onnx from OpenCV's model zoo."
        ) from error
