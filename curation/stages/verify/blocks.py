"""Images cut into blocks, and which blocks of one image another one covers."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools

GRID = 8
"""Blocks per side of an image."""
KEPT_COVERS = 64
"""Covers that a process keeps: most alignments lay whole frames of few sizes upon each other."""
COVERED = 0.9
"""Share of a block from which it counts as covered."""

Floats = npt.NDArray[np.float32]


class Blocks(NamedTuple):
    """The blocks of an image, without their means.

    Attributes:
        values: shape (GRID, GRID, pixels of a block).
        contrast: standard deviation of each block, shape (GRID, GRID).
    """

    values: Floats
    contrast: Floats

    @classmethod
    def of(cls, values: Floats) -> Blocks:
        """Return the blocks of an image, shape (height, width)."""
        blocks = _blocks(values)
        blocks -= blocks.mean(axis=2, keepdims=True)
        squares = np.einsum("ijk,ijk->ij", blocks, blocks)
        return cls(blocks, np.sqrt(squares / blocks.shape[2]))


def _blocks(values: Floats) -> Floats:
    """Return the blocks of an image, shape (GRID, GRID, pixels of a block).

    Rows and columns that do not fill a block are left out.
    """
    height, width = values.shape[0] // GRID, values.shape[1] // GRID
    blocks = values[: height * GRID, : width * GRID].reshape(GRID, height, GRID, width)
    return blocks.transpose(0, 2, 1, 3).reshape(GRID, GRID, -1).copy()


class Windows(NamedTuple):
    """Rectangles of one size in an image.

    Attributes:
        corners: first row and first column of each, shape (n, 2).
        height: pixels.
        width: pixels.
    """

    corners: npt.NDArray[np.int64]
    height: int
    width: int

    def enlarged(self, margin: int) -> Windows:
        """Return the rectangles with more pixels on each side."""
        return Windows(self.corners - margin, self.height + 2 * margin, self.width + 2 * margin)

    def slices(self) -> list[tuple[slice, slice]]:
        """Return rows and columns of each."""
        return [
            (slice(top, top + self.height), slice(left, left + self.width))
            for top, left in self.corners.tolist()
        ]

    def means(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the mean of each, of values of shape (height, width)."""
        return self._sums(cv2.integral(values)) / (self.height * self.width)

    def contrasts(self, values: Floats) -> npt.NDArray[np.float64]:
        """Return the standard deviation of each."""
        sums, squares = (
            self._sums(sums) / (self.height * self.width) for sums in cv2.integral2(values)
        )
        return np.sqrt(np.maximum(squares - sums**2, 0))

    def _sums(self, integral: npt.NDArray[Any]) -> npt.NDArray[Any]:
        top, left = self.corners.T
        bottom, right = top + self.height, left + self.width
        below, above = integral[bottom, right] - integral[bottom, left], integral[top, right]
        return np.asarray(below - above + integral[top, left])


def block_windows(shape: tuple[int, ...], margin: int) -> Windows:
    """Return the blocks of an image, moved inwards so that the image has a margin around each.

    Args:
        shape: height and width of the image, at least 2 * GRID + 2 * margin each.
        margin: pixels.
    """
    size = shape[0] // GRID, shape[1] // GRID
    starts = [
        np.clip(np.arange(GRID) * pixels // GRID, margin, pixels - of_block - margin)
        for pixels, of_block in zip(shape, size, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)
    return Windows(corners, *size)


class Cover(NamedTuple):
    """What one image covers of another one.

    Attributes:
        share: of the pixels.
        inside: which blocks are covered, shape (GRID, GRID).
    """

    share: float
    inside: Bools


def covered_pixels(shape: tuple[int, ...], other: tuple[int, ...], affine: Any) -> Bools:
    """Return which pixels of an image another one covers, shape (height, width).

    Args:
        shape: height and width of the image, at least GRID each.
        other: those of the other image.
        affine: map from pixels of the other image to pixels of this one.
    """
    height, width = shape
    ones = np.ones(other, np.uint8)
    covered = cv2.warpAffine(ones, affine, (width, height), flags=cv2.INTER_NEAREST)
    return np.asarray(covered > 0)


@lru_cache(maxsize=KEPT_COVERS)
def cover(shape: tuple[int, ...], other: tuple[int, ...], affine: bytes) -> Cover:
    """Return what `covered_pixels` covers; `affine` as bytes of float64."""
    covered = covered_pixels(shape, other, np.frombuffer(affine).reshape(2, 3))
    inside = _blocks(covered.astype(np.float32)).mean(axis=2) >= COVERED
    return Cover(float(covered.mean()), inside)
