"""Pairs of drawn graphics of the same shapes, in other colours or with another symbol: no copies.

Everything is drawn from a seed. The two graphics of a pair differ in one colour (its hue, its shade, or
grey in its place), in the ground, in the ink, or in one symbol. Most new colours have about the grey
level of the old one, so that in grey the two graphics look alike.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import cv2
import numpy as np
from PIL import Image

from benchmarks.drawings.canvas import Canvas, Colour, Palette
from benchmarks.drawings.kinds import KINDS

SIDE = 480
"""Pixels of the longer side while drawing. The graphic is then reduced, which smooths its edges."""
SIDES = (180, 360)
"""Smallest and largest side of a graphic in pixels."""
SYMBOLS = "A2K7R4W9HJ5E"
LIGHT, DARK = ((255, 255, 255), (245, 242, 235)), ((0, 0, 0), (34, 34, 40))
"""Usual colours of ground and ink. One in five graphics has others."""
MIN_DIFFERENCE, MIN_INK_DIFFERENCE = 25.0, 50.0
"""Smallest distance in CIELAB between a colour and the one in its place. Ink is in thin lines."""
SAME_GREY, OTHER_SHADE = (0.0, 8.0), (8.0, 30.0)
"""Difference of grey levels between the two: of all changes, and of another shade."""
Range = tuple[float, float]
CHANGES = ("hue", "shade", "grey", "ground", "ink", "symbol")


@dataclass(frozen=True)
class Pair:
    """Two graphics of one size that are not copies of each other.

    Attributes:
        kind: what is drawn, one of KINDS.
        change: what differs, one of CHANGES.
        left: one graphic, RGB.
        right: the other one.
    """

    kind: str
    change: str
    left: Image.Image
    right: Image.Image


def pairs(count: int, seed: int) -> Iterator[Pair]:
    """Yield pairs of graphics: all kinds and all changes in turn."""
    kinds = list(KINDS)
    for number in range(count):
        rng = Random(f"{seed} {number}")
        kind, change = kinds[number % len(kinds)], CHANGES[number // len(kinds) % len(CHANGES)]
        left = random_palette(rng)
        right = changed(rng, left, change)
        size, shapes = (rng.randint(*SIDES), rng.randint(*SIDES)), rng.random()
        yield Pair(kind, change, *(draw(kind, palette, size, shapes) for palette in (left, right)))


def draw(kind: str, palette: Palette, size: tuple[int, int], seed: float) -> Image.Image:
    """Return a graphic of some size. The seed decides its shapes."""
    scale = SIDE / max(size)
    canvas = Canvas((round(size[0] * scale), round(size[1] * scale)), palette.ground)
    KINDS[kind](canvas, Random(seed), palette)
    return canvas.image.resize(size, Image.Resampling.LANCZOS)


def random_palette(rng: Random) -> Palette:
    """Return a light ground and dark ink, or in one of four the reverse, and two strong colours."""
    tint = rng.random() < 0.2
    light = _random_colour(rng, (0.05, 0.25), (0.9, 1)) if tint else rng.choice(LIGHT)
    dark = _random_colour(rng, (0.3, 0.9), (0.1, 0.25)) if tint else rng.choice(DARK)
    ground, ink = (light, dark) if rng.random() < 0.75 else (dark, light)
    panel, accent = (
        _random_colour(rng, (0.35, 0.9), (0.5, 0.95)),
        _random_colour(rng, (0.5, 1), (0.35, 0.9)),
    )
    return Palette(ground, panel, accent, ink, rng.choice(SYMBOLS))


def changed(rng: Random, palette: Palette, change: str) -> Palette:
    """Return the palette with one colour or the symbol changed, as CHANGES names it."""
    if change == "symbol":
        others = [symbol for symbol in SYMBOLS if symbol != palette.symbol]
        return replace(palette, symbol=rng.choice(others))
    if change == "ground":
        light = grey_level(palette.ground) > 127
        ranges = ((0.05, 0.4), (0.8, 1)) if light else ((0.2, 1), (0.05, 0.35))
        return replace(palette, ground=_other_colour(rng, palette.ground, *ranges))
    if change == "ink":
        return replace(palette, ink=_other_colour(rng, palette.ink, at_least=MIN_INK_DIFFERENCE))
    if change == "grey":
        return replace(palette, accent=_other_colour(rng, palette.accent, (0, 0.02)))
    if change == "shade":
        return replace(palette, accent=_other_shade(rng, palette.accent))
    return replace(palette, accent=_other_colour(rng, palette.accent))


def _other_colour(
    rng: Random,
    old: Colour,
    saturation: Range = (0.2, 1),
    value: Range = (0, 1),
    steps: Range = SAME_GREY,
    at_least: float = MIN_DIFFERENCE,
) -> Colour:
    """Return a colour that looks different, with a grey level that is by `steps` from the old one.

    If the ranges hold no such colour, they widen; dark ink then becomes less dark.
    """
    while True:
        new = _random_colour(rng, saturation, value)
        step = abs(grey_level(new) - grey_level(old))
        if steps[0] <= step <= steps[1] and difference(old, new) >= at_least:
            return new
        if rng.random() < 0.005:
            saturation, value = (0, 1), (0, 1)
            steps = (steps[0], steps[1] + 2)


def _other_shade(rng: Random, old: Colour) -> Colour:
    """Return a paler, stronger, lighter or darker colour of the same hue."""
    hue = colorsys.rgb_to_hsv(*(part / 255 for part in old))[0]
    while True:
        new = _colour(hue, rng.random(), rng.random())
        step = abs(grey_level(new) - grey_level(old))
        if OTHER_SHADE[0] <= step <= OTHER_SHADE[1] and difference(old, new) >= MIN_DIFFERENCE:
            return new


def _random_colour(rng: Random, saturation: Range, value: Range) -> Colour:
    return _colour(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(part * 255) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def grey_level(colour: Colour) -> float:
    """Return the grey level of a colour, as hashes and keypoints see it."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def difference(one: Colour, other: Colour) -> float:
    """Return the distance of two colours in CIELAB."""
    pixels = np.array([[one, other]], np.float32) / 255
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))
