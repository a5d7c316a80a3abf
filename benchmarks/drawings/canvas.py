"""A canvas with places in fractions of its sides, and the colours that a drawing uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageFont

WORDS = (
    "open",
    "north",
    "river",
    "day",
    "light",
    "stone",
    "market",
    "eight",
    "city",
    "paper",
    "south",
)
ROUND = 40
"""Corners of a polygon that looks like a disc."""

Colour = tuple[int, int, int]
Places = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Palette:
    """The colours and the symbol of a graphic.

    Attributes:
        ground: behind everything.
        panel: of the larger shapes.
        accent: of the shapes that stand out.
        ink: of text and lines.
        symbol: a character that the graphic shows.
    """

    ground: Colour
    panel: Colour
    accent: Colour
    ink: Colour
    symbol: str


class Canvas:
    """Draws shapes. Places are (x, y) in fractions of the sides, sizes in fractions of the shorter one.

    Args:
        size: width and height in pixels.
        ground: colour of the whole.
    """

    def __init__(self, size: tuple[int, int], ground: Colour) -> None:
        self.image = Image.new("RGB", size, ground)
        self._pen = ImageDraw.Draw(self.image)
        self._width, self._height = size
        self._unit = min(size)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return x * self._width, y * self._height

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Draw a rectangle."""
        self._pen.rectangle((*self._at(left, top), *self._at(right, bottom)), fill=fill)

    def plate(self, box: tuple[float, float, float, float], fill: Colour, rim: Colour) -> None:
        """Draw a rectangle with round corners and a rim."""
        corners = (*self._at(*box[:2]), *self._at(*box[2:]))
        radius, width = self._unit * 0.06, round(self._unit * 0.03)
        self._pen.rounded_rectangle(corners, radius, fill=fill, outline=rim, width=width)

    def shape(
        self, x: float, y: float, radius: float, fill: Colour, corners: int = ROUND, turn: float = 0
    ) -> None:
        """Draw a regular polygon, or a disc."""
        circle = (self._at(x, y), radius * self._unit)
        self._pen.regular_polygon(circle, corners, turn, fill=fill)

    def slice(
        self, x: float, y: float, radius: float, angles: tuple[float, float], fill: Colour
    ) -> None:
        """Draw a sector of a disc, between two angles in degrees."""
        (x, y), radius = self._at(x, y), radius * self._unit
        self._pen.pieslice((x - radius, y - radius, x + radius, y + radius), *angles, fill=fill)

    def line(self, places: Places, fill: Colour, width: float = 0.01) -> None:
        """Draw a line through some places."""
        points = [self._at(*place) for place in places]
        self._pen.line(points, fill, max(1, round(width * self._unit)), joint="curve")

    def area(self, places: Places, fill: Colour) -> None:
        """Draw a polygon."""
        self._pen.polygon([self._at(*place) for place in places], fill=fill)

    def text(self, x: float, y: float, text: str, size: float, fill: Colour) -> None:
        """Write a line of bold text around a place."""
        font = ImageFont.load_default(max(8, round(size * self._unit)))
        bold = max(1, round(size * self._unit / 24))
        self._pen.text(self._at(x, y), text, fill, font, "mm", stroke_width=bold, stroke_fill=fill)


def words(rng: Random, count: int) -> str:
    """Return some words."""
    return " ".join(rng.sample(WORDS, count))
