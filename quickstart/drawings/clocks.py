"""Draws clocks: of any time, on any wall."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .canvas import Canvas, Colour, Point

ROMAN = ("XII", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")
ARABIC = ("12", *(str(hour) for hour in range(1, 12)))


@dataclass(frozen=True)
class _Dial:
    centre: Point
    radius: float
    ink: Colour

    def at(self, turn: float, distance: float) -> Point:
        """Return the point at a part of a turn from noon, and at a part of the radius."""
        angle, away = 2 * math.pi * turn, self.radius * distance
        return self.centre[0] + away * math.sin(angle), self.centre[1] - away * math.cos(angle)


def draw_clock(rng: np.random.Generator) -> Image.Image:
    """Return a drawing of a clock on a wall."""
    canvas = Canvas(rng, (0.75, 1.33))
    _wall(canvas)
    radius = canvas.between(0.3, 0.45)
    centre = (
        canvas.between(radius + 0.03, canvas.width - radius - 0.03),
        canvas.between(radius + 0.03, canvas.height - radius - 0.03),
    )
    dark = canvas.chance(0.25)
    bright, dim = (0.82, 1.0), (0.05, 0.3)
    face = canvas.any_colour((0, 0.35), dim if dark else bright)
    ink = canvas.any_colour((0, 0.5), bright if dark else dim)
    rim = canvas.any_colour()
    canvas.disc(
        (centre[0] + 0.02, centre[1] + 0.03), radius, canvas.any_colour((0, 0.3), (0.1, 0.3))
    )
    canvas.disc(centre, radius, rim)
    dial = _Dial(centre, radius * canvas.between(0.8, 0.95), ink)
    canvas.disc(centre, dial.radius, face)
    _hours(canvas, dial)
    _hands(canvas, dial)
    return canvas.finish()


def _wall(canvas: Canvas) -> None:
    """Paint the wall, with stripes, tiles or nothing, and sometimes a shelf or a picture."""
    first = canvas.any_colour((0.1, 0.6), (0.45, 0.95))
    last = canvas.any_colour((0.1, 0.6), (0.45, 0.95)) if canvas.chance(0.4) else first
    canvas.fade(0, canvas.height, first, last)
    second = canvas.any_colour((0.1, 0.6), (0.4, 0.95))
    pattern = canvas.rng.integers(4)
    gap = canvas.between(0.09, 0.28)
    if pattern == 1:
        for number in range(int(canvas.width / gap) + 1):
            canvas.box((number * gap, 0), (gap * 0.5, canvas.height), second)
    elif pattern == 2:
        for number in range(int(canvas.height / gap) + 1):
            canvas.line((0, number * gap), (canvas.width, number * gap), 0.012, second)
        for number in range(int(canvas.width / gap) + 1):
            canvas.line((number * gap, 0), (number * gap, canvas.height), 0.012, second)
    elif pattern == 3:
        level = canvas.between(0.4, 0.75) * canvas.height
        canvas.box((0, level), (canvas.width, canvas.height - level), second)
    for _ in range(int(canvas.rng.integers(3))):
        corner = canvas.between(-0.1, canvas.width - 0.2), canvas.between(-0.1, canvas.height - 0.2)
        size = canvas.between(0.15, 0.5), canvas.between(0.15, 0.5)
        canvas.box(corner, size, canvas.any_colour(), canvas.any_colour((0, 0.5), (0.1, 0.4)))


def _hours(canvas: Canvas, dial: _Dial) -> None:
    style = canvas.rng.integers(4)
    numerals = ROMAN if style == 0 else ARABIC
    for hour in range(12):
        turn = hour / 12
        if style <= 1:
            canvas.text(dial.at(turn, 0.8), dial.radius * 0.24, numerals[hour], dial.ink)
        elif style == 2:
            canvas.line(dial.at(turn, 0.78), dial.at(turn, 0.93), dial.radius * 0.05, dial.ink)
        elif hour % 3 == 0:
            canvas.text(dial.at(turn, 0.76), dial.radius * 0.34, numerals[hour], dial.ink)
        else:
            canvas.disc(dial.at(turn, 0.82), dial.radius * 0.04, dial.ink)


def _hands(canvas: Canvas, dial: _Dial) -> None:
    minutes = int(canvas.rng.integers(720))
    accent = canvas.any_colour((0.7, 1), (0.6, 0.95)) if canvas.chance(0.6) else dial.ink
    thick = dial.radius * canvas.between(0.06, 0.12)
    canvas.line(dial.at(minutes / 720, -0.12), dial.at(minutes / 720, 0.5), thick, dial.ink)
    canvas.line(dial.at(minutes / 60, -0.12), dial.at(minutes / 60, 0.75), thick * 0.7, dial.ink)
    second = canvas.rng.random()
    canvas.line(dial.at(second, -0.18), dial.at(second, 0.8), thick * 0.25, accent)
    canvas.disc(dial.centre, thick * 0.8, accent)
