"""Edits that images typically get when websites copy them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from .pictures import encode

Edit = Callable[[np.random.Generator, Image.Image], bytes]


def requantised(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Encode as JPEG of quality 40."""
    return encode(image, "JPEG", 40)


def smaller(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Resize to 70 % of each side."""
    size = (round(image.width * 0.7), round(image.height * 0.7))
    return encode(image.resize(size, Image.Resampling.LANCZOS), "JPEG", 88)


def cropped(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Crop to 95 % of each side, at a random place."""
    width, height = round(image.width * 0.95), round(image.height * 0.95)
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return encode(image.crop((left, top, left + width, top + height)), "JPEG", 88)


def toned(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Make it brighter or darker, with more contrast."""
    image = ImageEnhance.Brightness(image).enhance(float(rng.choice([0.75, 1.25])))
    return encode(ImageEnhance.Contrast(image).enhance(1.2), "JPEG", 88)


def grey(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Convert to one grey channel."""
    return encode(image.convert("L"), "JPEG", 88)


def lettered(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Write a line of text near the lower edge."""
    image = image.copy()
    font = ImageFont.load_default(size=max(10, image.height // 12))
    position = (image.width // 20, image.height - image.height // 7)
    ImageDraw.Draw(image).text(
        position,
        "mini-web.example",
        fill=(255, 255, 255),
        font=font,
        stroke_width=1,
        stroke_fill=(0, 0, 0),
    )
    return encode(image, "JPEG", 88)


def bordered(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Add a white or black border of 4 %."""
    fill = (255, 255, 255) if rng.random() < 0.5 else (0, 0, 0)
    return encode(ImageOps.expand(image, max(3, max(image.size) // 25), fill), "JPEG", 88)


def repacked(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Encode as WebP."""
    return encode(image, "WEBP", 75)


def mirrored(rng: np.random.Generator, image: Image.Image) -> bytes:
    """Mirror it: hard to find, because it changes perceptual hashes."""
    return encode(ImageOps.mirror(image), "JPEG", 88)


EDITS: dict[str, Edit] = {
    "requantised": requantised,
    "smaller": smaller,
    "cropped": cropped,
    "toned": toned,
    "grey": grey,
    "lettered": lettered,
    "bordered": bordered,
    "repacked": repacked,
    "mirrored": mirrored,
}
HARD = frozenset({"mirrored", "bordered"})
EASY = tuple(name for name in EDITS if name not in HARD)


def extension(edit: str) -> str:
    """Return the file extension of an edited image."""
    return ".webp" if edit == "repacked" else ".jpg"
