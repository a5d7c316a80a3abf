"""Edits that lay something over or around a picture: text, logos, bars, the frame of a screen."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from curation.inspect.audit.pixels import Rng

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
TEXT = """when you see it look at this monday sale best new daily photo shared the one and only my
friend says wow nobody ever told me free today follow for more www example com original"""
WORDS = TEXT.split()
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
INK, SOFT, PANEL = (40, 42, 46), (150, 152, 158), (241, 242, 244)
SMALLEST, LARGEST = 6, 400
"""Sizes of letters, in pixels."""


@lru_cache(maxsize=512)
def _font(size: int) -> Font:
    return ImageFont.load_default(min(max(size, SMALLEST), LARGEST))


def _words(rng: Rng, least: int, most: int) -> str:
    count = int(rng.integers(least, most + 1))
    return " ".join(str(word) for word in rng.choice(WORDS, count))


def _fitting(text: str, size: int, width: float) -> Font:
    """Return a font of `size`, or smaller, so that the text is at most `width` wide, in pixels."""
    long = _font(size).getlength(text)
    return _font(size if long <= width else int(size * width / long))


def _colour(rng: Rng) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def border(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture in a plain frame of 4 to 12 % of its shorter side."""
    wide = max(1, round(min(image.size) * rng.uniform(0.04, 0.12)))
    colour = (BLACK, WHITE, _colour(rng))[int(rng.integers(3))]
    framed = Image.new("RGB", (image.width + 2 * wide, image.height + 2 * wide), colour)
    framed.paste(image, (wide, wide))
    return framed


def logo(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture with an opaque badge of a fifth to a third of its shorter side."""
    image = image.copy()
    side = max(2, round(min(image.size) * rng.uniform(0.2, 0.34)))
    left = int(rng.integers(0, image.width - min(side, image.width) + 1))
    top = int(rng.integers(0, image.height - min(side, image.height) + 1))
    draw, ground = ImageDraw.Draw(image), _colour(rng)
    box = (left, top, left + side, top + side)
    if rng.random() < 0.5:
        draw.ellipse(box, fill=ground, outline=WHITE, width=max(1, side // 20))
    else:
        draw.rounded_rectangle(box, side // 6, fill=ground, outline=WHITE, width=max(1, side // 20))
    word = str(rng.choice(WORDS)).upper()
    middle = (left + side / 2, top + side / 2)
    ink = BLACK if sum(ground) > 380 else WHITE
    draw.text(middle, word, ink, _fitting(word, side // 3, 0.8 * side), anchor="mm")
    return image


def text_line(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture with one outlined line of text, as wide as it at most."""
    image = image.copy()
    text = _words(rng, 3, 6)
    size = round(min(image.size) * rng.uniform(0.08, 0.13))
    font = _fitting(text, size, 0.94 * image.width)
    spot = (image.width / 2, image.height * rng.uniform(0.15, 0.85))
    ink, edge = (WHITE, BLACK) if rng.random() < 0.7 else (BLACK, WHITE)
    ImageDraw.Draw(image).text(
        spot, text, ink, font, anchor="mm", stroke_width=max(1, size // 14), stroke_fill=edge
    )
    return image


def meme(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture between two bars of text, of 14 to 22 % of its height each."""
    high = max(2, round(image.height * rng.uniform(0.14, 0.22)))
    ground, ink = (WHITE, BLACK) if rng.random() < 0.5 else (BLACK, WHITE)
    framed = Image.new("RGB", (image.width, image.height + 2 * high), ground)
    framed.paste(image, (0, high))
    draw = ImageDraw.Draw(framed)
    for middle in (high / 2, framed.height - high / 2):
        text = _words(rng, 2, 5).upper()
        font = _fitting(text, round(0.6 * high), 0.92 * image.width)
        draw.text((image.width / 2, middle), text, ink, font, anchor="mm")
    return framed


def watermark(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture under rows of slanted text, seen half through."""
    reach = max(8, round(1.5 * max(image.size)))
    mask = Image.new("L", (reach, reach), 0)
    draw, text = ImageDraw.Draw(mask), (_words(rng, 2, 3) + "    ") * 12
    size = max(SMALLEST, round(min(image.size) * rng.uniform(0.06, 0.1)))
    shade = int(255 * rng.uniform(0.3, 0.55))
    for row in range(0, reach, 3 * size):
        draw.text((-(row % (5 * size)), row), text, shade, _font(size))
    mask = mask.rotate(rng.uniform(20, 40), Image.Resampling.BILINEAR)
    left, top = (reach - image.width) // 2, (reach - image.height) // 2
    mask = mask.crop((left, top, left + image.width, top + image.height))
    return Image.composite(Image.new("RGB", image.size, WHITE), image, mask)


def browser(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture in the window of a browser: tabs, an address, margins, lines below."""
    unit = max(2, round(image.width * 0.03))
    margin = round(unit * rng.uniform(1, 5))
    top, bottom = 5 * unit, unit * int(rng.integers(3, 8))
    size = (image.width + 2 * margin, top + image.height + bottom)
    window = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(window)
    draw.rectangle((0, 0, size[0], 4 * unit), fill=(222, 225, 230))
    for number, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        left = unit * (0.6 + 1.2 * number)
        draw.ellipse((left, 0.6 * unit, left + 0.8 * unit, 1.4 * unit), fill=colour)
    field = (unit, 2 * unit, size[0] - unit, 3.6 * unit)
    draw.rounded_rectangle(field, 0.8 * unit, fill=WHITE)
    address = "example.com/" + _words(rng, 1, 3).replace(" ", "-")
    draw.text((2 * unit, 2.8 * unit), address, SOFT, _font(round(0.9 * unit)), anchor="lm")
    window.paste(image, (margin, top))
    _lines(draw, rng, (margin, top + image.height + unit, size[0] - margin, size[1]), unit)
    return window


def phone(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture as a post on a phone's screen, about twice as high as it is wide."""
    unit = max(2, round(image.width * 0.04))
    top = 5 * unit
    high = max(round(image.width * rng.uniform(1.6, 2.1)), top + image.height + 6 * unit)
    ground, ink = (WHITE, INK) if rng.random() < 0.6 else ((18, 18, 20), PANEL)
    screen = Image.new("RGB", (image.width, high), ground)
    draw = ImageDraw.Draw(screen)
    clock = f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}"
    draw.text((unit, 0.9 * unit), clock, ink, _font(unit), anchor="lm")
    level = image.width - 3 * unit
    draw.rounded_rectangle((level, 0.5 * unit, level + 2 * unit, 1.4 * unit), 0.3 * unit, fill=ink)
    draw.ellipse((unit, 2 * unit, 3.2 * unit, 4.2 * unit), fill=_colour(rng))
    draw.text((4 * unit, 3.1 * unit), _words(rng, 2, 3), ink, _font(unit), anchor="lm")
    screen.paste(image, (0, top))
    below = top + image.height
    for number in range(3):
        left = unit * (1 + 2.2 * number)
        draw.ellipse((left, below + 0.8 * unit, left + 1.4 * unit, below + 2.2 * unit), outline=ink)
    _lines(draw, rng, (unit, below + 3 * unit, image.width - unit, high), unit)
    return screen


def _lines(
    draw: ImageDraw.ImageDraw, rng: Rng, box: tuple[float, float, float, float], unit: int
) -> None:
    """Write lines of text into a box (left, top, right, bottom), in pixels."""
    left, top, right, bottom = box
    row = top
    while row + unit < bottom:
        text = _words(rng, 3, 7)
        draw.text((left, row), text, SOFT, _fitting(text, unit, max(1.0, right - left)))
        row += 1.6 * unit
