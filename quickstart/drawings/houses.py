"""Draws houses with roof, door and windows, in a landscape."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Canvas, Colour, Point


def draw_house(rng: np.random.Generator) -> Image.Image:
    """Return a drawing of a house between trees."""
    canvas = Canvas(rng, (0.8, 1.6))
    ground = canvas.height * canvas.between(0.66, 0.85)
    _sky(canvas, ground)
    grass = canvas.colour((0.2, 0.4), (0.4, 0.8), (0.35, 0.75))
    canvas.fade(ground, canvas.height, grass, canvas.colour((0.2, 0.4), (0.4, 0.8), (0.25, 0.7)))
    wide = canvas.width * canvas.between(0.4, 0.62)
    high = min(canvas.between(0.22, 0.42), ground - 0.3)
    left = canvas.between(0.04, canvas.width - wide - 0.04)
    for _ in range(int(rng.integers(0, 4))):
        _tree(canvas, (canvas.between(0, canvas.width), ground))
    _walls(canvas, (left, ground - high), (wide, high))
    _path(canvas, left + wide / 2, ground)
    return canvas.finish()


def _sky(canvas: Canvas, ground: float) -> None:
    night = canvas.chance(0.2)
    value = (0.1, 0.35) if night else (0.75, 1.0)
    top = canvas.colour((0.5, 0.7), (0.3, 0.8), value)
    bottom = canvas.colour((0.0, 1.0), (0.1, 0.45), (0.3, 0.5) if night else (0.85, 1.0))
    canvas.fade(0, ground, top, bottom)
    light = (245, 240, 210) if night else (255, 214, 60)
    place = canvas.between(0.1, canvas.width - 0.1), canvas.between(0.08, 0.25)
    canvas.disc(place, canvas.between(0.05, 0.1), light)
    if canvas.chance(0.6):
        far = canvas.colour((0.25, 0.7), (0.2, 0.5), (0.35, 0.7))
        middle, peak = canvas.between(0, canvas.width), ground - canvas.between(0.15, 0.4)
        canvas.polygon([(middle - 0.7, ground), (middle, peak), (middle + 0.7, ground)], far)


def _tree(canvas: Canvas, foot: Point) -> None:
    x, y = foot
    high = canvas.between(0.25, 0.5)
    leaves = canvas.colour((0.17, 0.45), (0.4, 0.9), (0.25, 0.65))
    canvas.line(
        (x, y), (x, y - high * 0.5), 0.035, canvas.colour((0.05, 0.1), (0.4, 0.7), (0.25, 0.5))
    )
    if canvas.chance(0.5):
        wide = canvas.between(0.1, 0.16)
        canvas.polygon(
            [(x - wide, y - high * 0.3), (x, y - high), (x + wide, y - high * 0.3)], leaves
        )
    else:
        canvas.disc((x, y - high * 0.7), high * 0.3, leaves)


def _walls(canvas: Canvas, corner: Point, size: Point) -> None:
    (left, top), wide = corner, size[0]
    dark = canvas.any_colour((0.1, 0.5), (0.1, 0.3))
    roof = canvas.colour((-0.08, 0.12), (0.4, 0.9), (0.35, 0.8))
    if canvas.chance(0.5):
        x = left + wide * canvas.between(0.15, 0.8)
        canvas.box((x, top - 0.28), (0.07, 0.28), canvas.any_colour((0.2, 0.6), (0.3, 0.6)))
    over, peak = canvas.between(0.02, 0.06), min(canvas.between(0.16, 0.28), top - 0.02)
    flat = canvas.between(0, 0.3) * wide if canvas.chance(0.4) else 0
    ridge = left + wide * canvas.between(0.4, 0.6)
    eaves = [(left + wide + over, top), (left - over, top)]
    canvas.polygon([(ridge - flat, top - peak), (ridge + flat, top - peak), *eaves], roof, dark)
    canvas.box(corner, size, canvas.any_colour((0.05, 0.6), (0.6, 1.0)), dark)
    _openings(canvas, corner, size, dark)


def _openings(canvas: Canvas, corner: Point, size: Point, dark: Colour) -> None:
    (left, top), (wide, high) = corner, size
    glass = canvas.colour((0.1, 0.6), (0.1, 0.5), (0.7, 1.0))
    columns = int(canvas.rng.integers(2, 5))
    door = int(canvas.rng.integers(columns))
    cell = wide / columns
    for column in range(columns):
        x = left + cell * (column + 0.25)
        if column == door:
            place, opening = (x, top + high * 0.4), (cell * 0.5, high * 0.6)
            canvas.box(place, opening, canvas.any_colour(), dark)
            canvas.disc((x + cell * 0.4, top + high * 0.72), 0.008, dark)
            continue
        place, opening = (x, top + high * 0.25), (cell * 0.5, high * 0.38)
        canvas.box(place, opening, glass, dark)
        middle = x + cell * 0.25
        canvas.line((middle, place[1]), (middle, place[1] + opening[1]), 0.008, dark)


def _path(canvas: Canvas, x: float, ground: float) -> None:
    if canvas.chance(0.6):
        end = canvas.between(0.2, canvas.width - 0.2)
        corners = [(x - 0.04, ground), (x + 0.04, ground), (end + 0.13, canvas.height)]
        fill = canvas.colour((0.05, 0.15), (0.1, 0.4), (0.6, 0.9))
        canvas.polygon([*corners, (end - 0.13, canvas.height)], fill)
