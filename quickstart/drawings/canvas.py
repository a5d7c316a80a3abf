"""A canvas on which drawings are made larger than they end, so that their edges are smooth."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Point = tuple[float, float]

OVERSAMPLING = 3


class Canvas:
    """Draws shapes. The shorter side is 1 long, (0, 0) is the upper left corner.

    Attributes:
        rng: random numbers.
        width: of the canvas, at least 1.
        height: of the canvas, at least 1.
    """

    def __init__(self, rng: np.random.Generator, stretch: tuple[float, float]) -> None:
        self.rng = rng
        aspect = float(rng.uniform(*stretch))
        self._short = int(rng.integers(130, 221)) * OVERSAMPLING
        self.width, self.height = max(aspect, 1.0), max(1 / aspect, 1.0)
        size = round(self.width * self._short), round(self.height * self._short)
        self._image = Image.new("RGB", size)
        self._pen = ImageDraw.Draw(self._image)

    def between(self, low: float, high: float) -> float:
        """Return a random number."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Return whether something that has this probability happens."""
        return bool(self.rng.random() < probability)

    def colour(self, hue: Point, saturation: Point, value: Point) -> Colour:
        """Return a random colour; the ranges are within 0 to 1, a hue may exceed them."""
        parts = self.between(*hue) % 1, self.between(*saturation), self.between(*value)
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(*parts))
        return red, green, blue

    def any_colour(self, saturation: Point = (0.3, 0.9), value: Point = (0.3, 0.95)) -> Colour:
        """Return a random colour of any hue."""
        return self.colour((0, 1), saturation, value)

    def fade(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        """Fill a band of the whole width with a gradient."""
        steps = 48
        for step in range(steps):
            share = step / (steps - 1)
            mixed = (round(a + (b - a) * share) for a, b in zip(first, last, strict=True))
            red, green, blue = mixed
            place = 0, top + (bottom - top) * step / steps
            self.box(place, (self.width, (bottom - top) / steps), (red, green, blue))

    def polygon(self, points: Sequence[Point], fill: Colour, rim: Colour | None = None) -> None:
        """Draw a polygon, with a thin rim if it has a colour."""
        places = [(x * self._short, y * self._short) for x, y in points]
        self._pen.polygon(places, fill=fill, outline=rim, width=OVERSAMPLING if rim else 1)

    def box(self, corner: Point, size: Point, fill: Colour, rim: Colour | None = None) -> None:
        """Draw a rectangle by its upper left corner and its size."""
        (left, top), (wide, high) = corner, size
        right, low = left + wide, top + high
        self.polygon([(left, top), (right, top), (right, low), (left, low)], fill, rim)

    def disc(self, centre: Point, radius: float, fill: Colour, flat: float = 1.0) -> None:
        """Draw a disc; with `flat` below 1, an ellipse that is less high than wide."""
        x, y = centre
        box = (x - radius, y - radius * flat, x + radius, y + radius * flat)
        self._pen.ellipse([part * self._short for part in box], fill=fill)

    def line(self, start: Point, end: Point, width: float, fill: Colour) -> None:
        """Draw a line with round ends."""
        places = [(x * self._short, y * self._short) for x, y in (start, end)]
        self._pen.line(places, fill=fill, width=max(1, round(width * self._short)))
        for end_point in (start, end):
            self.disc(end_point, width / 2, fill)

    def text(self, centre: Point, height: float, text: str, fill: Colour) -> None:
        """Write a text around a point."""
        font = ImageFont.load_default(round(height * self._short))
        place = centre[0] * self._short, centre[1] * self._short
        self._pen.text(place, text, font=font, fill=fill, anchor="mm")

    def finish(self) -> Image.Image:
        """Return the drawing in its final size, with the grain of a photograph."""
        pixels = np.asarray(self._image.reduce(OVERSAMPLING), dtype=np.float64)
        grain = self.rng.normal(0, self.rng.uniform(2, 6), (*pixels.shape[:2], 1))
        return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
