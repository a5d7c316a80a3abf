"""Whether two aligned images have the same colours and, if they are drawn, the same details.

A photograph is often recoloured as a whole: made grey, brown, warmer, paler, darker. One change of all
colours then explains the difference. In a graphic of few colours it would explain nearly anything, so
there only the brightness may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import Bools
from curation.media.pictures.pixels import Pixels
from curation.stages.verify.align import Affine
from curation.stages.verify.blocks import Floats
from curation.stages.verify.reduced_image import ReducedImage

FEW_COLOURS = 12.0
"""Number of colours below which a drawn image has few of them."""
DRAWN = 0.62
"""Share `drawn` from which a change of all colours explains nothing in an image of few colours."""
DRAWN_FLOOR = 0.5
"""Share `drawn` below which details are not compared."""
SHIFT = 2
"""Pixels by which an edge may miss its place."""
REACH = 5
"""Pixels around a place in which an image must show something."""
MIN_LIGHTNESS = 3.0
"""Standard deviation of lightness, 0 to 100, below which there is no shape to compare."""
MIN_CHROMA = 8.0
"""Distance from grey in CIELAB from which a pixel has a hue."""
MIN_PIXELS = 50
"""Pixels of the overlap below which nothing is compared."""
STRIDE = 4
"""One of this many pixels in each direction decides the change of colours."""
ROUNDS = 4
"""Rounds of least squares, each with weights that fall with the residual of the round before."""
BRIGHTNESS_SPANS = (0.9, 0.13, 0.02)
"""Logarithms by which the factor of brightness may differ from that of the round before."""
LAB_ZERO = np.array([0, 128, 128], np.float32)
LAB_SCALE = np.array([100 / 255, 1, 1], np.float32)
"""What OpenCV's CIELAB in bytes has at zero, and the size of its steps."""
OTHER = 32.0
"""Difference of a channel from which a pixel is another one, however much it differs."""


@dataclass(frozen=True)
class ColourDifference:
    """How much two images differ where they overlap, after the best change of colours that is allowed.

    Attributes:
        hue: median difference of hues in degrees, over pixels that have one in both images; 0 if fewer
            than MIN_PIXELS have.
        colour: 90th percentile of the difference of hue and saturation, in CIELAB.
        detail_colour: largest difference of colour, in CIELAB, at a place where both images show
            something; None for photographs.
        detail_shape: smallest correlation around such a place; None for photographs.
    """

    hue: float = 0.0
    colour: float | None = None
    detail_colour: float | None = None
    detail_shape: float | None = None


def colour_difference(
    this: ReducedImage, other: ReducedImage, affine: Affine, covered: Bools
) -> ColourDifference:
    """Return how much the colours of two images differ.

    Args:
        this: one image.
        other: the other image.
        affine: map from pixels of the other image to pixels of this one.
        covered: which pixels of this image the other one covers, shape (height, width).
    """
    height, width = this.grey.shape
    inside = _shrink(covered, SHIFT)
    if inside.sum() < MIN_PIXELS:
        return ColourDifference()
    border = cv2.BORDER_REPLICATE
    moved: Any = cv2.warpAffine(other.pixels, affine, (width, height), borderMode=border)
    drawn = min(this.drawn, other.drawn)
    if drawn >= DRAWN and max(this.colours, other.colours) < FEW_COLOURS:
        one, two = _lab(this.pixels), _lab(_brightened(moved, this.pixels, inside))
    else:
        one, two = _recoloured(_lab(this.pixels), _lab(moved), inside)
    these, others = (np.asarray(cv2.blur(lab, (5, 5)))[inside][:, 1:] for lab in (one, two))
    difference = np.linalg.norm(these - others, axis=1)
    has_details = drawn >= DRAWN_FLOOR
    return ColourDifference(
        hue=_hue(these, others),
        colour=float(np.percentile(difference, 90)),
        detail_colour=detail_colour(one, two, inside) if has_details else None,
        detail_shape=detail_shape(one[..., 0], two[..., 0], covered) if has_details else None,
    )


def _shrink(covered: Bools, pixels: int) -> Bools:
    """Return which pixels lie within what is covered, at some distance from its border."""
    return cv2.erode(covered.astype(np.uint8), _square(pixels), borderValue=0) > 0


def _square(radius: int) -> Pixels:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _lab(pixels: Pixels) -> Floats:
    """Return an image in CIELAB, smoothed a little: lightness 0 to 100, a and b around 0."""
    lab = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_BGR2LAB), (0, 0), 0.8)
    return np.asarray((lab - LAB_ZERO) * LAB_SCALE)


def _sample(values: npt.NDArray[Any], inside: Bools) -> Floats:
    step = slice(None, None, STRIDE)
    return np.asarray(values[step, step][inside[step, step]], dtype=np.float32)


def _brightened(pixels: Pixels, target: Pixels, inside: Bools) -> Pixels:
    """Return an image in the brightness of another one: all channels times one factor, clipped.

    The factor is searched for in three rounds, each finer than the one before.
    """
    values, targets = _sample(pixels, inside).ravel(), _sample(target, inside).ravel()
    best = 1.0
    for span in BRIGHTNESS_SPANS:
        factors = best * np.exp(np.linspace(-span, span, 15))
        errors = [np.abs(np.minimum(factor * values, 255) - targets) for factor in factors]
        best = float(factors[np.argmin([np.minimum(error, OTHER).mean() for error in errors])])
    return np.asarray(np.clip(pixels * np.float32(best), 0, 255), dtype=np.uint8)


def _recoloured(one: Floats, two: Floats, inside: Bools) -> tuple[Floats, Floats]:
    """Return two images, one of them recoloured like the other, whichever comes closer.

    A grey copy can be made from its original, but not the original from it.
    """
    this, other = _sample(one, inside), _sample(two, inside)
    to_this, to_other = _fit(other, this), _fit(this, other)
    if _error(to_this, other, this) <= _error(to_other, this, other):
        return one, _apply(to_this, two)
    return _apply(to_other, one), two


@dataclass(frozen=True)
class Recolouring:
    """One change of all colours.

    Attributes:
        lightness: new lightness by powers 0, 1 and 2 of the old one.
        chroma: factor of a and b, then what is added to a and to b, then what is added per lightness.
    """

    lightness: Floats
    chroma: Floats


def _fit(source: Floats, target: Floats) -> Recolouring:
    """Return the change that turns most colours of the source into those of the target, (n, 3) each."""
    light, one, none = source[:, 0], np.ones(len(source)), np.zeros(len(source))
    a = np.column_stack([source[:, 1], one, none, light, none])
    b = np.column_stack([source[:, 2], none, one, none, light])
    lightness = _solve(np.column_stack([one, light, light**2 / 100])[None], target[:, :1].T)
    return Recolouring(lightness, _solve(np.stack([a, b]), target[:, 1:].T))


def _solve(terms: npt.NDArray[Any], targets: Floats) -> Floats:
    """Return robust least squares of channels that share their coefficients.

    Args:
        terms: shape (channels, n, coefficients).
        targets: shape (channels, n).
    """
    weight = np.ones(terms.shape[1])
    tiny = 1e-6 * np.eye(terms.shape[2])
    for _ in range(ROUNDS):
        weighted = terms * weight[None, :, None]
        square = np.einsum("cni,cnj->ij", weighted, terms) + tiny
        solution = np.linalg.solve(square, np.einsum("cni,cn->i", weighted, targets))
        weight = 1 / (1 + np.linalg.norm(targets - terms @ solution, axis=0))
    return np.asarray(solution, dtype=np.float32)


def _apply(change: Recolouring, lab: Floats) -> Floats:
    """Return colours recoloured, shape (..., 3)."""
    light = lab[..., 0]
    constant, linear, square = change.lightness
    factor, to_a, to_b, per_light_a, per_light_b = change.chroma
    return np.stack(
        [
            constant + linear * light + square * light**2 / 100,
            factor * lab[..., 1] + to_a + per_light_a * light,
            factor * lab[..., 2] + to_b + per_light_b * light,
        ],
        axis=-1,
    )


def _error(change: Recolouring, source: Floats, target: Floats) -> float:
    difference = _apply(change, source) - target
    return float(np.linalg.norm(difference[:, 1:], axis=1).mean())


def _hue(these: npt.NDArray[Any], others: npt.NDArray[Any]) -> float:
    this_chroma, other_chroma = np.hypot(*these.T), np.hypot(*others.T)
    both = (this_chroma > MIN_CHROMA) & (other_chroma > MIN_CHROMA)
    if both.sum() < MIN_PIXELS:
        return 0.0
    cosine = (these[both] * others[both]).sum(1) / (this_chroma[both] * other_chroma[both])
    return float(np.degrees(np.median(np.arccos(np.clip(cosine, -1, 1)))))


def detail_colour(one: Floats, two: Floats, inside: Bools) -> float:
    """Return the largest difference of colour at a place where both images show something.

    At a place, an image has the colours between the smallest and the largest value of each channel
    around it, because an edge may miss its place. Each image must go beyond the colours of the other
    one: a line that is only paler, as in a smaller copy, does not. What was added on an empty ground
    does not count.
    """
    shown = np.minimum(_contrast(one), _contrast(two))
    beyond = [
        cv2.blur(np.minimum(_beyond(*pair), shown), (3, 3)) for pair in ((one, two), (two, one))
    ]
    return float(np.minimum(*beyond)[inside].max())


def detail_shape(one: Floats, two: Floats, covered: Bools) -> float:
    """Return the smallest correlation of two images around a place where both show something.

    It is the best of the correlations with one of them shifted by up to a pixel. 1 if there is no such
    place.

    Args:
        one: lightness of one image, shape (height, width).
        two: lightness of the other image, of the same shape.
        covered: which pixels both images show.
    """
    height, width = one.shape
    mean, deviation = _moments(one)
    around: Floats = np.pad(two, 1, mode="edge")
    other_mean, other_deviation = _moments(around)
    best = np.full(one.shape, -1.0, np.float32)
    for down in range(3):
        for across in range(3):
            part = slice(down, down + height), slice(across, across + width)
            covariance = _smooth(one * around[part]) - mean * other_mean[part]
            np.maximum(best, covariance / (deviation * other_deviation[part]), out=best)
    shown = np.minimum(deviation, other_deviation[1:-1, 1:-1]) >= MIN_LIGHTNESS
    shown = _shrink(shown, 1) & _shrink(covered, REACH)
    return float(best[shown].min()) if shown.any() else 1.0


def _smooth(values: Floats) -> Floats:
    return np.asarray(cv2.blur(values, (2 * REACH + 1, 2 * REACH + 1)), dtype=np.float32)


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation around each pixel; the latter is at least 1."""
    mean = _smooth(values)
    return mean, np.sqrt(np.maximum(_smooth(values * values) - mean * mean, 1.0))


def _beyond(lab: Floats, around: Floats) -> Floats:
    """Return how far each pixel is from the colours around the same place in another image."""
    high, low = cv2.dilate(around, _square(SHIFT)), cv2.erode(around, _square(SHIFT))
    return np.asarray(np.linalg.norm(lab - np.clip(lab, low, high), axis=-1), dtype=np.float32)


def _contrast(lab: Floats) -> Floats:
    """Return the range of colours around each pixel."""
    reach = cv2.dilate(lab, _square(REACH)) - cv2.erode(lab, _square(REACH))
    return np.asarray(np.linalg.norm(reach, axis=-1), dtype=np.float32)
