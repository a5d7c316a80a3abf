"""Whole pictures that are drawn: clocks on a wall, houses in a landscape, sailing boats at sea."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .boats import draw_boat
from .clocks import draw_clock
from .houses import draw_house


@dataclass(frozen=True)
class Drawing:
    """One kind of drawing.

    Attributes:
        title: description for captions.
        word: one word for captions.
        draw: draws one with a generator of random numbers.
    """

    title: str
    word: str
    draw: Callable[[np.random.Generator], Image.Image]


DRAWINGS = {
    "clocks": Drawing("a round clock on the wall", "clock", draw_clock),
    "houses": Drawing("a house with a garden, drawn by hand", "house", draw_house),
    "boats": Drawing("a sailing boat at sea, drawn by hand", "boat", draw_boat),
}
