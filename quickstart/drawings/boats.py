"""Draws sailing boats at sea."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Canvas, Colour


def draw_boat(rng: np.random.Generator) -> Image.Image:
    """Return a drawing of a sailing boat."""
    canvas = Canvas(rng, (0.7, 1.4))
    level = canvas.height * canvas.between(0.5, 0.72)
    sky = canvas.colour((0.45, 0.7), (0.2, 0.6), (0.7, 1.0))
    canvas.fade(0, level, sky, canvas.colour((0, 1), (0.05, 0.4), (0.85, 1.0)))
    if canvas.chance(0.5):
        sun = canvas.colour((0.05, 0.15), (0.5, 0.9), (0.9, 1.0))
        canvas.disc(
            (canvas.between(0.1, canvas.width - 0.1), canvas.between(0.1, level)), 0.09, sun
        )
    for _ in range(int(rng.integers(0, 4))):
        _cloud(canvas, canvas.between(0, canvas.width), canvas.between(0.05, level * 0.6))
    shallow = canvas.colour((0.48, 0.66), (0.4, 0.9), (0.4, 0.85))
    canvas.fade(level, canvas.height, shallow, canvas.colour((0.5, 0.68), (0.5, 1.0), (0.2, 0.6)))
    _boat(canvas, canvas.between(0.36, canvas.width - 0.36), level + canvas.between(0.02, 0.12))
    _waves(canvas, level)
    return canvas.finish()


def _cloud(canvas: Canvas, x: float, y: float) -> None:
    shade = round(canvas.between(205, 255))
    for _ in range(4):
        place = x + canvas.between(-0.12, 0.12), y + canvas.between(-0.03, 0.03)
        canvas.disc(place, canvas.between(0.04, 0.09), (shade, shade, shade), flat=0.6)


def _boat(canvas: Canvas, x: float, water: float) -> None:
    half, deep = canvas.between(0.2, 0.33), canvas.between(0.07, 0.13)
    dark: Colour = canvas.any_colour((0.1, 0.5), (0.1, 0.3))
    mast = x + canvas.between(-0.08, 0.08)
    top = max(0.03, water - canvas.between(0.42, 0.62))
    foot = water - deep - 0.02
    canvas.line((mast, water - deep / 2), (mast, top), 0.016, dark)
    sail = canvas.any_colour((0.0, 0.7), (0.8, 1.0))
    canvas.polygon(
        [(mast + 0.012, top), (mast + half * 0.95, foot), (mast + 0.012, foot)], sail, dark
    )
    jib = canvas.any_colour((0.0, 0.8), (0.7, 1.0)) if canvas.chance(0.6) else sail
    start = top + canvas.between(0.03, 0.15)
    canvas.polygon(
        [(mast - 0.012, start), (mast - half * 0.85, foot), (mast - 0.012, foot)], jib, dark
    )
    if canvas.chance(0.5):
        flag = canvas.any_colour((0.7, 1.0), (0.7, 0.95))
        canvas.polygon([(mast, top), (mast - 0.09, top + 0.02), (mast, top + 0.045)], flag)
    rail = water - deep
    bow = [
        (x - half - 0.04, rail),
        (x + half, rail),
        (x + half * 0.75, water),
        (x - half * 0.7, water),
    ]
    canvas.polygon(bow, canvas.any_colour(), dark)


def _waves(canvas: Canvas, level: float) -> None:
    foam = canvas.colour((0.48, 0.6), (0.05, 0.3), (0.75, 1.0))
    for _ in range(int(canvas.rng.integers(4, 14))):
        x, y = canvas.between(0, canvas.width), canvas.between(level + 0.03, canvas.height)
        length = canvas.between(0.05, 0.2)
        canvas.line((x, y), (x + length, y), 0.01, foam)
