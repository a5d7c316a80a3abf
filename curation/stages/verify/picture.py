"""A picture as the comparison sees it: small, grey and in colour, with its keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

SIDE = 160
"""Shorter side in pixels, unless the longer one would pass LONG."""
LONG = 320
KEYPOINTS = 400
FLAT = 1.0
"""Grey levels a pixel below which a gradient counts as none."""

MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][..., -np.arange(8)].ravel()
"""Where the values of a keypoint's vector come from when its picture is mirrored: what lay across its
direction changes sides, and gradients turn the other way round."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def reduced(image: bytes) -> bytes | None:
    """Return an encoded picture at the size that is compared, as JPEG; None if it cannot be decoded."""
    found = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) if image else None
    if found is None:
        return None
    height, width = found.shape[:2]
    scale = min(SIDE / min(height, width), LONG / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(found, size, interpolation=how)
    data: bytes = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return data


@dataclass(frozen=True)
class Picture:
    """A reduced picture, uint8 BGR (height, width, 3); perhaps the mirror image of another."""

    pixels: Pixels
    mirrors: Picture | None = None

    @classmethod
    def of(cls, image: bytes) -> Picture:
        """Decode what `reduced` returned."""
        return cls(np.asarray(cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)))

    @cached_property
    def mirrored(self) -> Picture:
        """The same in a mirror."""
        return Picture(np.ascontiguousarray(self.pixels[:, ::-1]), self)

    @cached_property
    def grey(self) -> Pixels:
        """(height, width)."""
        return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_BGR2GRAY))

    @cached_property
    def smooth(self) -> Floats:
        """Grey without its finest noise, (height, width)."""
        return np.asarray(cv2.GaussianBlur(self.grey, (0, 0), 1.0), dtype=np.float32)

    @cached_property
    def chroma(self) -> Floats:
        """The colour channels a and b of CIELAB, blurred as JPEG does, (height, width, 2)."""
        lab = cv2.cvtColor(self.pixels, cv2.COLOR_BGR2LAB)
        return np.asarray(cv2.GaussianBlur(lab, (0, 0), 2.0)[..., 1:], dtype=np.float32) - 128

    @cached_property
    def flat(self) -> float:
        """Share of pixels where nothing changes: small in photographs, large in drawings."""
        grey = self.grey.astype(np.float32)
        across = cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8
        down = cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8
        return float((np.hypot(across, down) < FLAT).mean())

    @cached_property
    def keypoints(self) -> tuple[Floats, Floats] | None:
        """Places (n, 2) and RootSIFT vectors (n, 128) (Lowe 2004; Arandjelović and Zisserman 2012)."""
        if self.mirrors is not None:
            return self._mirrored_keypoints(self.mirrors)
        sift: Any = cv2.SIFT.create(nfeatures=KEYPOINTS, contrastThreshold=0.02)
        found, vectors = sift.detectAndCompute(self.grey, None)
        if vectors is None or len(found) < 4:
            return None
        root = np.sqrt(vectors / (vectors.sum(axis=1, keepdims=True) + 1e-7))
        places = np.array([point.pt for point in found], dtype=np.float32)
        return places, root.astype(np.float32)

    def _mirrored_keypoints(self, source: Picture) -> tuple[Floats, Floats] | None:
        if source.keypoints is None:
            return None
        places, vectors = source.keypoints
        last = np.float32(self.pixels.shape[1] - 1)
        return np.column_stack([last - places[:, 0], places[:, 1]]), vectors[:, MIRRORED]
