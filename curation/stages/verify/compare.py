"""Whether two pictures show the same pixels: laid upon each other, block by block.

A copy, however it was cut, turned, toned or written upon, agrees with its original in nearly every
block, at the very same places and in hue, and one of the two lies within the other. Another shot of
the same shelf agrees in many blocks, but not at the same places, and each shows what the other does
not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from curation.stages.verify.align import Affine, by_frames, by_keypoints
from curation.stages.verify.picture import Floats, Picture

GRID = 8
"""Blocks a side."""
REACH = 4
"""Pixels around its place in which a block is looked for."""
TEXTURE = 4.0
"""Standard deviation in grey levels below which a block has nothing to compare."""
SAME = 0.7
"""Correlation from which a block agrees."""
GAIN = 0.03
"""Correlation that a shift must add to count: of a blurred block all near places are as good."""
FEWEST = 3
"""Blocks without which pictures cannot be compared."""
LEAST = 0.1
"""Share of this picture that the other must cover."""
HOPELESS = 0.4
"""Share of agreeing blocks below which nothing more is measured."""
COLOURED = 8.0
"""Distance from grey in CIELAB from which a pixel has a hue."""
CLEAR = 0.95
"""Share of agreeing blocks at which no other way of laying is tried."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """How well two pictures agree where they overlap.

    `agreement`: share of textured blocks that correlate; `worst`: their 10th percentile of correlation;
    `steady`: share of the agreeing blocks that fit best within a pixel of their place; `inside`: the
    share of one picture that lies within the other, the larger of both; `hue`: median difference of
    hues in degrees where both have one; `flat`: share of flat pixels, the larger of both; `blocks`:
    textured ones; `mirrored`: whether one was mirrored.
    """

    agreement: float = 0.0
    worst: float = 0.0
    steady: float = 0.0
    inside: float = 0.0
    hue: float = 0.0
    flat: float = 0.0
    blocks: int = 0
    mirrored: bool = False


def compare(this: Picture, other: Picture) -> Agreement:
    """Lay `other` upon `this` in every way that seems likely, and tell of the best."""
    best: tuple[float, Affine, Picture, float, int] | None = None
    for laid in (other, other.mirrored):
        for where in _ways(this, laid):
            share, blocks = _overlap(this, laid, where)
            if blocks >= FEWEST and (best is None or share * blocks**0.5 > best[0]):
                best = (share * blocks**0.5, where, laid, share, blocks)
            if blocks >= GRID and share >= CLEAR:
                return _told(this, laid, where, laid is not other)
    flat = max(this.flat, other.flat)
    if best is None:
        return Agreement(flat=flat)
    if best[3] < HOPELESS:
        return Agreement(agreement=best[3], flat=flat, blocks=best[4])
    return _told(this, best[2], best[1], best[2] is not other)


def _ways(this: Picture, other: Picture) -> Iterator[Affine]:
    found = by_keypoints(this, other)
    if found is not None:
        yield found
    yield from by_frames(this, other)


def _laid(this: Picture, other: Picture, where: Affine) -> tuple[Floats, Bools]:
    """Return the other picture's grey in the frame of this one, and where it is."""
    height, width = this.grey.shape
    grey = cv2.warpAffine(other.grey, where, (width, height))
    covered = cv2.warpAffine(
        np.ones_like(other.grey), where, (width, height), flags=cv2.INTER_NEAREST
    )
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0), dtype=np.float32), covered > 0


def _overlap(this: Picture, other: Picture, where: Affine) -> tuple[float, int]:
    """Return the share of blocks that agree at their very places, and how many have texture."""
    grey, covered = _laid(this, other, where)
    if covered.mean() < LEAST or min(covered.shape) < GRID:
        return 0.0, 0
    mine, theirs = _cut(this.smooth), _cut(grey)
    inside = _cut(covered.astype(np.float32)).mean(axis=2) >= 0.9
    mine -= mine.mean(axis=2, keepdims=True)
    theirs -= theirs.mean(axis=2, keepdims=True)
    spread = np.sqrt((mine**2).mean(axis=2)), np.sqrt((theirs**2).mean(axis=2))
    textured = inside & (np.maximum(*spread) >= TEXTURE)
    product = (mine * theirs).mean(axis=2)
    agree = product[textured] > SAME * np.maximum(spread[0] * spread[1], 1.0)[textured]
    return float(agree.mean()) if len(agree) else 0.0, len(agree)


def _cut(values: Floats) -> Floats:
    """Return the blocks of a picture, (GRID, GRID, pixels of a block), without what is left over."""
    high, wide = values.shape[0] // GRID, values.shape[1] // GRID
    blocks = values[: high * GRID, : wide * GRID].reshape(GRID, high, GRID, wide)
    return blocks.transpose(0, 2, 1, 3).reshape(GRID, GRID, -1).copy()


def _grid(shape: tuple[int, ...], margin: int) -> Iterator[tuple[slice, slice]]:
    """Yield the blocks of a picture, moved inwards so that a margin around each lies in it."""
    high, wide = shape[0] // GRID, shape[1] // GRID
    for row in range(GRID):
        top = min(max(row * shape[0] // GRID, margin), shape[0] - high - margin)
        for column in range(GRID):
            left = min(max(column * shape[1] // GRID, margin), shape[1] - wide - margin)
            yield slice(top, top + high), slice(left, left + wide)


def _told(this: Picture, other: Picture, where: Affine, mirrored: bool) -> Agreement:
    """Return the measures of one way, after the blocks' own shifts have made it more exact."""
    flat = max(this.flat, other.flat)
    where = _refined(this, other, where)
    # The map itself may mirror too.
    mirrored ^= bool(np.linalg.det(where[:, :2]) < 0)
    blocks, covered = _blocks(this, other, where)
    if len(blocks) < FEWEST:
        return Agreement(flat=flat, blocks=len(blocks), mirrored=mirrored)
    at_place, best = blocks[:, 4], blocks[:, 5]
    sharp = best > SAME
    moved, gain = np.hypot(blocks[sharp, 2], blocks[sharp, 3]), (best - at_place)[sharp]
    area = abs(float(np.linalg.det(where[:, :2]))) * other.grey.size
    inside = max(float(covered.mean()), float(covered.sum()) / max(area, 1.0))
    return Agreement(
        agreement=float((at_place > SAME).mean()),
        worst=float(np.percentile(at_place, 10)),
        steady=float(((moved <= 1) | (gain < GAIN)).mean()) if sharp.any() else 0.0,
        inside=min(1.0, inside),
        hue=_hue(this, other, where, covered),
        flat=flat,
        blocks=len(blocks),
        mirrored=mirrored,
    )


def _blocks(this: Picture, other: Picture, where: Affine) -> tuple[npt.NDArray[np.float64], Bools]:
    """Return a row for each textured block, and where the pictures overlap.

    Columns: its middle (x, y), the shift at which it correlates best (x, y), the correlation at its
    place and at that shift.
    """
    grey, covered = _laid(this, other, where)
    rows = []
    around = REACH
    if min(this.grey.shape) < GRID * 2 + 2 * around:
        return np.empty((0, 6)), covered
    for down, across in _grid(this.grey.shape, around):
        wide = (
            slice(down.start - around, down.stop + around),
            slice(across.start - around, across.stop + around),
        )
        if covered[wide].mean() < 0.98:
            continue
        block, field = this.smooth[down, across], grey[wide]
        if max(block.std(), field.std()) < TEXTURE:
            continue
        scores = cv2.matchTemplate(field, block, cv2.TM_CCOEFF_NORMED)
        _, best, _, (x, y) = cv2.minMaxLoc(scores)
        middle = (across.start + across.stop) / 2, (down.start + down.stop) / 2
        rows.append((*middle, x - around, y - around, float(scores[around, around]), best))
    return np.array(rows, dtype=np.float64).reshape(-1, 6), covered


def _refined(this: Picture, other: Picture, where: Affine) -> Affine:
    """Return the map with the affine part of the blocks' shifts taken out, by robust least squares."""
    blocks, _ = _blocks(this, other, where)
    blocks = blocks[blocks[:, 5] > SAME] if len(blocks) else blocks
    if len(blocks) < 2 * FEWEST:
        return where
    places = np.column_stack([np.ones(len(blocks)), blocks[:, 0], blocks[:, 1]])
    shifts, weight = blocks[:, 2:4], np.ones((len(blocks), 1))
    for _ in range(5):
        found = np.linalg.lstsq(places * weight, shifts * weight, rcond=None)[0]
        weight = 1 / (1 + np.hypot(*(shifts - places @ found).T))[:, None]
    moved = np.eye(3)
    moved[:2, 2] = found[0]
    moved[:2, :2] += found[1:].T
    if abs(np.linalg.det(moved)) < 0.1:
        return where
    refined: Affine = (np.linalg.inv(moved) @ np.vstack([where, [0, 0, 1]]))[:2]
    return refined


def _hue(this: Picture, other: Picture, where: Affine, covered: Bools) -> float:
    """Return the median difference of hues in degrees; 0 where hardly a pixel has one in both."""
    height, width = this.grey.shape
    theirs = cv2.warpAffine(other.chroma, where, (width, height))[covered]
    mine = this.chroma[covered]
    length = np.hypot(*mine.T), np.hypot(*theirs.T)
    both = (length[0] > COLOURED) & (length[1] > COLOURED)
    if both.sum() < 50:
        return 0.0
    cosine = (mine[both] * theirs[both]).sum(1) / (length[0][both] * length[1][both])
    return float(np.degrees(np.median(np.arccos(np.clip(cosine, -1, 1)))))
