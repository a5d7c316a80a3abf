"""Whether two images show the same pixels: laid upon each other and compared block by block.

A copy may be cropped, turned, toned or written upon. It still agrees with its original in nearly every
block, at the same places and in its colours (see `colour.py`), and one of the two images lies within
the other. Another shot of the same scene agrees in many blocks, but not at the same places, and each
image shows parts that the other does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools
from curation.stages.verify.align import Affine, align_frames, align_keypoints
from curation.stages.verify.blocks import GRID, Blocks, Floats, block_windows, cover, covered_pixels
from curation.stages.verify.colour import colour_difference
from curation.stages.verify.reduced_image import ReducedImage

SEARCH_RADIUS = 4
"""Pixels around its place in which a block is searched for."""
MIN_CONTRAST = 4.0
"""Standard deviation in grey levels below which a block has no texture to compare."""
MIN_CORRELATION = 0.7
"""Correlation above which a block agrees."""
MIN_GAIN = 0.03
"""Correlation that a shift must add to count: a blurred block fits all near places equally well."""
MIN_BLOCKS = 3
"""Textured blocks below which images cannot be compared."""
MIN_COVERED = 0.98
"""Share of a block and its surroundings that the other image must cover."""
MIN_OVERLAP = 0.1
"""Share of this image that the other must cover."""
MIN_AGREEMENT = 0.4
"""Share of agreeing blocks below which nothing else is measured."""
CLEAR_AGREEMENT = 0.95
"""Share of agreeing blocks from which no other alignment is tried."""


@dataclass(frozen=True)
class Agreement:
    """How well two images agree where they overlap.

    Attributes:
        agreement: share of textured blocks that agree: they correlate above MIN_CORRELATION.
        worst: 10th percentile of the correlations of textured blocks.
        steady: share of the agreeing blocks that fit best within a pixel of their place.
        inside: share of one image that lies within the other, the larger of both.
        hue: median difference of hues in degrees, as ColourDifference.
        colour: difference of hue and saturation, as ColourDifference.
        drawn: share of pixels without texture, as ReducedImage, the smaller of both images.
        detail_colour: difference of colour of a detail, as ColourDifference.
        detail_shape: correlation of a detail, as ColourDifference.
        flat: share of flat pixels, the larger of both images.
        blocks: number of textured blocks.
        mirrored: whether one image is mirrored.
    """

    agreement: float = 0.0
    worst: float = 0.0
    steady: float = 0.0
    inside: float = 0.0
    hue: float = 0.0
    flat: float = 0.0
    blocks: int = 0
    mirrored: bool = False
    colour: float | None = None
    drawn: float | None = None
    detail_colour: float | None = None
    detail_shape: float | None = None


@dataclass(frozen=True)
class Alignment:
    """One way to lay the other image upon this one.

    Attributes:
        affine: map from pixels of the other image to pixels of this one.
        other: the other image, perhaps mirrored.
        agreement: share of blocks that agree at their places.
        blocks: number of textured blocks.
    """

    affine: Affine
    other: ReducedImage
    agreement: float
    blocks: int

    @property
    def score(self) -> float:
        """The larger, the better the alignment."""
        return self.agreement * float(self.blocks**0.5)


def compare(this: ReducedImage, other: ReducedImage) -> Agreement:
    """Lay the other image upon this one in every likely way, and measure the best alignment.

    Alignments are the affine map of matched keypoints, and the whole frames in quarter turns, each also
    with the other image mirrored. The best alignment is refined before it is measured.
    """
    best: Alignment | None = None
    for variant in (other, other.mirrored):
        for affine in _alignments(this, variant):
            alignment = Alignment(affine, variant, *_overlap_agreement(this, variant, affine))
            if alignment.blocks >= MIN_BLOCKS and (best is None or alignment.score > best.score):
                best = alignment
            if alignment.blocks >= GRID and alignment.agreement >= CLEAR_AGREEMENT:
                return _measure(this, variant, affine, variant is not other)
    flat = max(this.flat, other.flat)
    if best is None:
        return Agreement(flat=flat)
    if best.agreement < MIN_AGREEMENT:
        return Agreement(agreement=best.agreement, flat=flat, blocks=best.blocks)
    return _measure(this, best.other, best.affine, best.other is not other)


def _alignments(this: ReducedImage, other: ReducedImage) -> Iterator[Affine]:
    affine = align_keypoints(this, other)
    if affine is not None:
        yield affine
    yield from align_frames(this, other)


def _warp(this: ReducedImage, other: ReducedImage, affine: Affine) -> Floats:
    """Return the other image's grey levels in the frame of this one."""
    height, width = this.grey.shape
    grey = cv2.warpAffine(other.grey, affine, (width, height))
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0), dtype=np.float32)


def _overlap_agreement(
    this: ReducedImage, other: ReducedImage, affine: Affine
) -> tuple[float, int]:
    """Return the share of textured blocks that agree at their places, and the number of blocks."""
    if min(this.grey.shape) < GRID:
        return 0.0, 0
    covered = cover(this.grey.shape, other.grey.shape, affine.tobytes())
    if covered.share < MIN_OVERLAP:
        return 0.0, 0
    these, others = this.blocks, Blocks.of(_warp(this, other, affine))
    textured = covered.inside & (np.maximum(these.contrast, others.contrast) >= MIN_CONTRAST)
    covariance = np.einsum("ijk,ijk->ij", these.values, others.values) / these.values.shape[2]
    norm = np.maximum(these.contrast * others.contrast, 1.0)
    agree = covariance[textured] > MIN_CORRELATION * norm[textured]
    return float(agree.mean()) if len(agree) else 0.0, len(agree)


def _measure(this: ReducedImage, other: ReducedImage, affine: Affine, mirrored: bool) -> Agreement:
    """Refine an alignment by the shifts of its blocks, and measure it."""
    flat = max(this.flat, other.flat)
    affine = _refine(this, other, affine)
    # The map itself may mirror the image too.
    mirrored ^= bool(np.linalg.det(affine[:, :2]) < 0)
    blocks, covered = _match_blocks(this, other, affine)
    if len(blocks) < MIN_BLOCKS:
        return Agreement(flat=flat, blocks=len(blocks), mirrored=mirrored)
    at_place, best = blocks[:, 4], blocks[:, 5]
    agreeing = best > MIN_CORRELATION
    shift = np.hypot(blocks[agreeing, 2], blocks[agreeing, 3])
    gain = (best - at_place)[agreeing]
    area = abs(float(np.linalg.det(affine[:, :2]))) * other.grey.size
    inside = max(float(covered.mean()), float(covered.sum()) / max(area, 1.0))
    return Agreement(
        agreement=float((at_place > MIN_CORRELATION).mean()),
        worst=float(np.percentile(at_place, 10)),
        steady=float(((shift <= 1) | (gain < MIN_GAIN)).mean()) if agreeing.any() else 0.0,
        inside=min(1.0, inside),
        **asdict(colour_difference(this, other, affine, covered)),
        flat=flat,
        blocks=len(blocks),
        mirrored=mirrored,
        drawn=min(this.drawn, other.drawn),
    )


def _match_blocks(
    this: ReducedImage, other: ReducedImage, affine: Affine
) -> tuple[npt.NDArray[np.float64], Bools]:
    """Search for each textured block of this image around its place in the other one.

    Returns:
        One row per block, shape (blocks, 6): centre x and y in pixels, shift x and y in pixels of the
        best correlation, correlation at its place, and correlation at that shift. Then which pixels the
        other image covers, shape (height, width).
    """
    grey = _warp(this, other, affine)
    covered = covered_pixels(this.grey.shape, other.grey.shape, affine)
    if min(this.grey.shape) < GRID * 2 + 2 * SEARCH_RADIUS:
        return np.empty((0, 6)), covered
    blocks = block_windows(this.grey.shape, SEARCH_RADIUS)
    fields = blocks.enlarged(SEARCH_RADIUS)
    contrast = np.maximum(blocks.contrasts(this.smooth), fields.contrasts(grey))
    is_covered = fields.means(covered.view(np.uint8)) >= MIN_COVERED
    searched = np.flatnonzero(is_covered & (contrast >= MIN_CONTRAST)).tolist()
    block_slices, field_slices, rows = blocks.slices(), fields.slices(), []
    for number in searched:
        down, across = block_slices[number]
        scores = cv2.matchTemplate(
            grey[field_slices[number]], this.smooth[down, across], cv2.TM_CCOEFF_NORMED
        )
        _, best, _, (x, y) = cv2.minMaxLoc(scores)
        centre = (across.start + across.stop) / 2, (down.start + down.stop) / 2
        at_place = float(scores[SEARCH_RADIUS, SEARCH_RADIUS])
        rows.append((*centre, x - SEARCH_RADIUS, y - SEARCH_RADIUS, at_place, best))
    return np.array(rows, dtype=np.float64).reshape(-1, 6), covered


def _refine(this: ReducedImage, other: ReducedImage, affine: Affine) -> Affine:
    """Return the map corrected by the shifts of blocks.

    An affine map is fitted to the shifts of agreeing blocks by iteratively reweighted least squares,
    with weights that fall with the residual.
    """
    blocks, _ = _match_blocks(this, other, affine)
    blocks = blocks[blocks[:, 5] > MIN_CORRELATION] if len(blocks) else blocks
    if len(blocks) < 2 * MIN_BLOCKS:
        return affine
    centres = np.column_stack([np.ones(len(blocks)), blocks[:, 0], blocks[:, 1]])
    shifts, weight = blocks[:, 2:4], np.ones((len(blocks), 1))
    for _ in range(5):
        solution = np.linalg.lstsq(centres * weight, shifts * weight, rcond=None)[0]
        weight = 1 / (1 + np.hypot(*(shifts - centres @ solution).T))[:, None]
    correction = np.eye(3)
    correction[:2, 2] = solution[0]
    correction[:2, :2] += solution[1:].T
    if abs(np.linalg.det(correction)) < 0.1:
        return affine
    refined: Affine = (np.linalg.inv(correction) @ np.vstack([affine, [0, 0, 1]]))[:2]
    return refined
