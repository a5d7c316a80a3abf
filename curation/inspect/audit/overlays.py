"""Edits that draw over an image or frame it: text, logos, bars, the window of a browser or a phone."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from curation.inspect.audit.transforms import Rng

Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
TEXT = """when you see it look at this monday sale best new daily photo shared the one and only my
friend says wow nobody ever told me free today follow for more www example com original"""
WORDS = TEXT.split()
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
DARK_GREY, MID_GREY, LIGHT_GREY = (40, 42, 46), (150, 152, 158), (241, 242, 244)
MIN_FONT_SIZE, MAX_FONT_SIZE = 6, 400
"""Font sizes in pixels."""


@lru_cache(maxsize=512)
def _font(size: int) -> Font:
    return ImageFont.load_default(min(max(size, MIN_FONT_SIZE), MAX_FONT_SIZE))


def _random_words(rng: Rng, minimum: int, maximum: int) -> str:
    count = int(rng.integers(minimum, maximum + 1))
    return " ".join(str(word) for word in rng.choice(WORDS, count))


def _font_to_fit(text: str, size: int, width: float) -> Font:
    """Return a font of `size`, or a smaller one, so that the text is at most `width` pixels wide."""
    length = _font(size).getlength(text)
    return _font(size if length <= width else int(size * width / length))


def _random_colour(rng: Rng) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def border(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image in a plain border of 4 to 12 % of its shorter side."""
    thickness = max(1, round(min(image.size) * rng.uniform(0.04, 0.12)))
    colour = (BLACK, WHITE, _random_colour(rng))[int(rng.integers(3))]
    size = (image.width + 2 * thickness, image.height + 2 * thickness)
    framed = Image.new("RGB", size, colour)
    framed.paste(image, (thickness, thickness))
    return framed


def logo(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image with an opaque badge, 20 to 34 % of its shorter side wide."""
    image = image.copy()
    side = max(2, round(min(image.size) * rng.uniform(0.2, 0.34)))
    left = int(rng.integers(0, image.width - min(side, image.width) + 1))
    top = int(rng.integers(0, image.height - min(side, image.height) + 1))
    draw, fill = ImageDraw.Draw(image), _random_colour(rng)
    box = (left, top, left + side, top + side)
    if rng.random() < 0.5:
        draw.ellipse(box, fill=fill, outline=WHITE, width=max(1, side // 20))
    else:
        draw.rounded_rectangle(box, side // 6, fill=fill, outline=WHITE, width=max(1, side // 20))
    word = str(rng.choice(WORDS)).upper()
    centre = (left + side / 2, top + side / 2)
    text_colour = BLACK if sum(fill) > 380 else WHITE
    draw.text(centre, word, text_colour, _font_to_fit(word, side // 3, 0.8 * side), anchor="mm")
    return image


def text_line(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image with one line of outlined text, at most as wide as the image."""
    image = image.copy()
    text = _random_words(rng, 3, 6)
    size = round(min(image.size) * rng.uniform(0.08, 0.13))
    font = _font_to_fit(text, size, 0.94 * image.width)
    centre = (image.width / 2, image.height * rng.uniform(0.15, 0.85))
    fill, outline = (WHITE, BLACK) if rng.random() < 0.7 else (BLACK, WHITE)
    ImageDraw.Draw(image).text(
        centre, text, fill, font, anchor="mm", stroke_width=max(1, size // 14), stroke_fill=outline
    )
    return image


def meme(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image between two bars of text, each 14 to 22 % of its height."""
    bar_height = max(2, round(image.height * rng.uniform(0.14, 0.22)))
    background, text_colour = (WHITE, BLACK) if rng.random() < 0.5 else (BLACK, WHITE)
    framed = Image.new("RGB", (image.width, image.height + 2 * bar_height), background)
    framed.paste(image, (0, bar_height))
    draw = ImageDraw.Draw(framed)
    for centre in (bar_height / 2, framed.height - bar_height / 2):
        text = _random_words(rng, 2, 5).upper()
        font = _font_to_fit(text, round(0.6 * bar_height), 0.92 * image.width)
        draw.text((image.width / 2, centre), text, text_colour, font, anchor="mm")
    return framed


def watermark(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image under rows of slanted, half-transparent text."""
    side = max(8, round(1.5 * max(image.size)))
    mask = Image.new("L", (side, side), 0)
    draw, text = ImageDraw.Draw(mask), (_random_words(rng, 2, 3) + "    ") * 12
    size = max(MIN_FONT_SIZE, round(min(image.size) * rng.uniform(0.06, 0.1)))
    opacity = int(255 * rng.uniform(0.3, 0.55))
    for row in range(0, side, 3 * size):
        draw.text((-(row % (5 * size)), row), text, opacity, _font(size))
    mask = mask.rotate(rng.uniform(20, 40), Image.Resampling.BILINEAR)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    mask = mask.crop((left, top, left + image.width, top + image.height))
    return Image.composite(Image.new("RGB", image.size, WHITE), image, mask)


def browser_window(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image in the window of a browser: title bar, address, margins, text below."""
    unit = max(2, round(image.width * 0.03))
    margin = round(unit * rng.uniform(1, 5))
    top, bottom = 5 * unit, unit * int(rng.integers(3, 8))
    size = (image.width + 2 * margin, top + image.height + bottom)
    window = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(window)
    _draw_title_bar(draw, rng, size[0], unit)
    window.paste(image, (margin, top))
    _draw_lines(draw, rng, (margin, top + image.height + unit, size[0] - margin, size[1]), unit)
    return window


def _draw_title_bar(draw: ImageDraw.ImageDraw, rng: Rng, width: int, unit: int) -> None:
    """Draw the buttons and the address field of a browser, 4 units high."""
    draw.rectangle((0, 0, width, 4 * unit), fill=(222, 225, 230))
    for number, colour in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        left = unit * (0.6 + 1.2 * number)
        draw.ellipse((left, 0.6 * unit, left + 0.8 * unit, 1.4 * unit), fill=colour)
    field = (unit, 2 * unit, width - unit, 3.6 * unit)
    draw.rounded_rectangle(field, 0.8 * unit, fill=WHITE)
    address = "example.com/" + _random_words(rng, 1, 3).replace(" ", "-")
    font = _font(round(0.9 * unit))
    draw.text((2 * unit, 2.8 * unit), address, MID_GREY, font, anchor="lm")


def phone_screen(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image as a post on the screen of a phone, about twice as high as it is wide."""
    unit = max(2, round(image.width * 0.04))
    top = 5 * unit
    height = max(round(image.width * rng.uniform(1.6, 2.1)), top + image.height + 6 * unit)
    background, foreground = (
        (WHITE, DARK_GREY) if rng.random() < 0.6 else ((18, 18, 20), LIGHT_GREY)
    )
    screen = Image.new("RGB", (image.width, height), background)
    draw = ImageDraw.Draw(screen)
    _draw_status_bar(draw, rng, image.width, unit, foreground)
    draw.ellipse((unit, 2 * unit, 3.2 * unit, 4.2 * unit), fill=_random_colour(rng))
    author = _random_words(rng, 2, 3)
    draw.text((4 * unit, 3.1 * unit), author, foreground, _font(unit), anchor="lm")
    screen.paste(image, (0, top))
    below = top + image.height
    for number in range(3):
        left = unit * (1 + 2.2 * number)
        button = (left, below + 0.8 * unit, left + 1.4 * unit, below + 2.2 * unit)
        draw.ellipse(button, outline=foreground)
    _draw_lines(draw, rng, (unit, below + 3 * unit, image.width - unit, height), unit)
    return screen


def _draw_status_bar(
    draw: ImageDraw.ImageDraw, rng: Rng, width: int, unit: int, foreground: Colour
) -> None:
    """Draw the clock and the battery of a phone."""
    clock = f"{int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}"
    draw.text((unit, 0.9 * unit), clock, foreground, _font(unit), anchor="lm")
    left = width - 3 * unit
    battery = (left, 0.5 * unit, left + 2 * unit, 1.4 * unit)
    draw.rounded_rectangle(battery, 0.3 * unit, fill=foreground)


def _draw_lines(
    draw: ImageDraw.ImageDraw, rng: Rng, box: tuple[float, float, float, float], unit: int
) -> None:
    """Draw lines of text into a box (left, top, right, bottom), in pixels."""
    left, top, right, bottom = box
    row = top
    while row + unit < bottom:
        text = _random_words(rng, 3, 7)
        draw.text((left, row), text, MID_GREY, _font_to_fit(text, unit, max(1.0, right - left)))
        row += 1.6 * unit
