"""Draws scanned digits on random paper with random ink."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Array = NDArray[np.float64]


def draw_digit(rng: np.random.Generator, strokes: Array) -> Image.Image:
    """Return an RGB image of a digit with a side of 96 to 160 px.

    Args:
        rng: random numbers.
        strokes: a scan of scikit-learn, (8, 8), from 0 (paper) to 16 (ink).
    """
    side = int(rng.integers(96, 161))
    paper_colour, ink_colour = _colours(rng)
    pattern = PAPER_PATTERNS[int(rng.integers(len(PAPER_PATTERNS)))](rng, side)[..., None]
    ink = _ink_coverage(rng, strokes, side)[..., None]
    pattern_colour = ink_colour if rng.random() < 0.3 else rng.uniform(0, 255, 3)
    paper = paper_colour * (1 - pattern) + pattern_colour * pattern
    pixels = paper * (1 - ink) + ink_colour * ink
    pixels = pixels + rng.normal(0, rng.uniform(3, 9), (side, side, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _colours(rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the colours of paper and ink, with enough contrast; one in four is light on dark."""
    paper, ink = rng.uniform(170, 255, 3), rng.uniform(0, 110, 3)
    return (ink, paper) if rng.random() < 0.25 else (paper, ink)


def _ink_coverage(rng: np.random.Generator, strokes: Array, side: int) -> Array:
    """Return the coverage with ink (side, side), 0 to 1: the digit enlarged, rotated and sharpened."""
    height = int(side * rng.uniform(0.5, 0.85))
    width = int(height * rng.uniform(0.65, 1.0))
    scan = Image.fromarray((strokes * 15.9).astype(np.uint8))
    digit = scan.resize((width, height), Image.Resampling.BICUBIC)
    page = Image.new("L", (side, side))
    left, top = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
    page.paste(digit, (int(left), int(top)))
    page = page.rotate(rng.uniform(-14, 14), Image.Resampling.BICUBIC)
    page = page.filter(ImageFilter.GaussianBlur(side / 90))
    pen = rng.uniform(0.35, 0.6)
    return np.clip((np.asarray(page, dtype=np.float64) / 255 - pen) * 5 + 0.5, 0, 1)


def _ruled(rng: np.random.Generator, side: int) -> Array:
    gap = int(rng.integers(9, 26))
    lines = (np.arange(side) + rng.integers(gap)) % gap < rng.integers(1, 4)
    return np.repeat(lines[:, None] * rng.uniform(0.25, 0.6), side, axis=1)


def _squared(rng: np.random.Generator, side: int) -> Array:
    lines = _ruled(rng, side)
    return np.maximum(lines, lines.T)


def _shaded(rng: np.random.Generator, side: int) -> Array:
    slope = rng.uniform(-1, 1, 2)
    axis = np.linspace(-1, 1, side)
    shade: Array = slope[0] * axis[:, None] + slope[1] * axis[None, :]
    shade = (shade - shade.min()) / max(float(np.ptp(shade)), 1e-6)
    return shade * float(rng.uniform(0.3, 0.7))


def _mottled(rng: np.random.Generator, side: int) -> Array:
    """Return stains or fibres: noise enlarged from a coarse grid."""
    grid = rng.integers(4, 20, 2)
    noise = Image.fromarray(rng.integers(0, 256, tuple(grid.tolist()), dtype=np.uint8))
    spread = noise.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(spread, dtype=np.float64) / 255 * rng.uniform(0.3, 0.65)


def _striped(rng: np.random.Generator, side: int) -> Array:
    direction, period = rng.uniform(0, np.pi), rng.uniform(10, 45)
    axis = np.arange(side)
    wave = np.cos(direction) * axis[:, None] + np.sin(direction) * axis[None, :]
    stripes: Array = np.sin(2 * np.pi * wave / period) + 1
    return stripes * float(rng.uniform(0.1, 0.3))


PAPER_PATTERNS = (_ruled, _squared, _shaded, _mottled, _mottled, _striped)
