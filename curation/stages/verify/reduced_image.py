"""An image as it is compared: small, in grey and in colour, with its keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from curation.media.pictures.pixels import Pixels
from curation.stages.verify.blocks import Blocks, Floats

SHORTER_SIDE = 160
"""Pixels of the shorter side, unless the longer side would be more than LONGER_SIDE."""
LONGER_SIDE = 320
MAX_KEYPOINTS = 400
FLAT_GRADIENT = 1.0
"""Grey levels per pixel below which a gradient counts as zero."""
EDGE_GRADIENT = 6.0
"""Grey levels per pixel from which a gradient is an edge."""
EVEN_CURVATURE = 0.5
"""Grey levels of the Laplacian below which a gradient does not change."""
MIN_SMOOTH = 0.05
"""Share of pixels without an edge below which an image is no more drawn for having few of them."""

MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1][..., -np.arange(8)].ravel()
"""Permutation that turns the SIFT descriptor of a keypoint into that of the mirrored image: the cells
on the two sides of its direction are swapped, and gradients turn the other way."""

DESCRIPTOR_NORM = 4000.0
"""Length of a descriptor. Products of two are whole numbers that float32 holds exactly."""
KEYPOINT = np.dtype([("position", "<f4", 2), ("descriptor", "u1", 128)])
"""A keypoint: x and y in pixels, and its SIFT descriptor."""


def reduce_image(image: bytes) -> bytes | None:
    """Return an encoded image at the size that is compared, as JPEG; None if it cannot be decoded."""
    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) if image else None
    if decoded is None:
        return None
    height, width = decoded.shape[:2]
    scale = min(SHORTER_SIDE / min(height, width), LONGER_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = cv2.resize(decoded, size, interpolation=interpolation)
    file: bytes = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    return file


@dataclass(frozen=True)
class ReducedImage:
    """A reduced image, with what comparisons need of it. Each is computed once.

    Attributes:
        pixels: BGR, uint8 of shape (height, width, 3).
        mirror_of: the image whose mirror image this is, or None.
        packed: its keypoints, as `pack_keypoints` returned them; None if they are not known yet.
    """

    pixels: Pixels
    mirror_of: ReducedImage | None = None
    packed: bytes | None = None

    @classmethod
    def of(cls, image: bytes, packed: bytes | None = None) -> ReducedImage:
        """Decode what `reduce_image` returned; `packed` as the attribute."""
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        return cls(np.asarray(pixels), packed=packed)

    @cached_property
    def mirrored(self) -> ReducedImage:
        """The mirror image, with left and right swapped."""
        return ReducedImage(np.ascontiguousarray(self.pixels[:, ::-1]), self)

    @cached_property
    def grey(self) -> Pixels:
        """Grey levels, shape (height, width)."""
        return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_BGR2GRAY))

    @cached_property
    def smooth(self) -> Floats:
        """Grey levels without the finest noise, shape (height, width)."""
        return np.asarray(cv2.GaussianBlur(self.grey, (0, 0), 1.0), dtype=np.float32)

    @cached_property
    def blocks(self) -> Blocks:
        """The blocks of `smooth`; both sides must have GRID pixels."""
        return Blocks.of(self.smooth)

    @cached_property
    def colours(self) -> float:
        """Number of colours: exp of the entropy over 512 of them, as if all were equally frequent."""
        sample = self.pixels[::2, ::2].reshape(-1, 3).astype(np.int64) // 32
        count = np.bincount(sample @ (64, 8, 1), minlength=512)
        share = count[count > 0] / len(sample)
        return float(np.exp(-(share * np.log(share)).sum()))

    @cached_property
    def flat(self) -> float:
        """Share of pixels without a gradient: small in photographs, large in drawings."""
        return float((self._gradient < FLAT_GRADIENT).mean())

    @cached_property
    def drawn(self) -> float:
        """Share of pixels without texture among those without an edge: large in graphics.

        Without texture are pixels without a gradient or, in shaded graphics, those whose gradient does
        not change.
        """
        smooth = self._gradient < EDGE_GRADIENT
        even = np.abs(cv2.Laplacian(self.smooth, cv2.CV_32F)) < EVEN_CURVATURE
        share = max(float(smooth.mean()), MIN_SMOOTH)
        return max(self.flat, float((even & smooth).mean())) / share

    @cached_property
    def _gradient(self) -> Floats:
        """Grey levels per pixel, shape (height, width)."""
        grey = self.grey.astype(np.float32)
        horizontal = cv2.Sobel(grey, cv2.CV_32F, 1, 0) / 8
        vertical = cv2.Sobel(grey, cv2.CV_32F, 0, 1) / 8
        return np.hypot(horizontal, vertical)

    @cached_property
    def keypoints(self) -> tuple[Floats, Floats] | None:
        """Keypoints of the image; None if there are fewer than 4.

        Positions (x, y) in pixels of shape (n, 2), and RootSIFT descriptors of shape (n, 128) (Lowe
        2004; Arandjelović and Zisserman 2012), of length DESCRIPTOR_NORM and rounded.
        """
        if self.mirror_of is not None:
            return self._mirrored_keypoints(self.mirror_of)
        packed = pack_keypoints(self.grey) if self.packed is None else self.packed
        return _unpack_keypoints(packed)

    def _mirrored_keypoints(self, source: ReducedImage) -> tuple[Floats, Floats] | None:
        if source.keypoints is None:
            return None
        positions, descriptors = source.keypoints
        last = np.float32(self.pixels.shape[1] - 1)
        mirrored = np.column_stack([last - positions[:, 0], positions[:, 1]])
        return mirrored, descriptors[:, MIRRORED]


def pack_keypoints(grey: Pixels) -> bytes:
    """Return the keypoints of an image as bytes, which take most of the time of a comparison.

    Args:
        grey: grey levels, shape (height, width).

    Returns:
        KEYPOINT records; empty if there are fewer than 4.
    """
    sift: Any = cv2.SIFT.create(nfeatures=MAX_KEYPOINTS, contrastThreshold=0.02)
    points, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None or len(points) < 4:
        return b""
    packed = np.empty(len(points), KEYPOINT)
    packed["position"] = [point.pt for point in points]
    # SIFT rounds its descriptors to whole numbers from 0 to 255.
    packed["descriptor"] = descriptors
    return packed.tobytes()


def _unpack_keypoints(packed: bytes) -> tuple[Floats, Floats] | None:
    if not packed:
        return None
    points = np.frombuffer(packed, KEYPOINT)
    descriptors = points["descriptor"].astype(np.float32)
    root = np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-7))
    return np.ascontiguousarray(points["position"]), np.rint(DESCRIPTOR_NORM * root)
