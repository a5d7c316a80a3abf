"""The Haar cascade that is part of OpenCV: upright frontal faces (Viola and Jones 2001)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt


def detect(
    image: npt.NDArray[np.uint8], weights: bytes | None, at_least: float
) -> list[tuple[float, ...]]:
    """Return a box (x, y, width, height) in pixels for each face.

    Args:
        image: uint8 (height, width, 3), BGR.
        weights: ignored; the cascade is part of OpenCV.
        at_least: ignored; the cascade gives no confidence.
    """
    grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    boxes = _cascade().detectMultiScale(grey, scaleFactor=1.1, minNeighbors=4, minSize=(20, 20))
    return [tuple(float(v) for v in box) for box in boxes]


@lru_cache(maxsize=1)
def _cascade() -> Any:
    folder: str = cv2.data.haarcascades  # type: ignore[attr-defined]
    return cv2.CascadeClassifier(str(Path(folder) / "haarcascade_frontalface_default.xml"))
