"""Edits that move or change the pixels of a picture: RGB in, RGB out, of at least one pixel a side."""

from __future__ import annotations

import io
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

Rng: TypeAlias = np.random.Generator
GREY = (128, 128, 128)


def saved(image: Image.Image, kind: str, quality: int) -> bytes:
    """Return a picture as a file of that format (`JPEG`, `WEBP`) and quality."""
    out = io.BytesIO()
    image.save(out, kind, quality=quality)
    return out.getvalue()


def resize(image: Image.Image, rng: Rng, wide: float, high: float) -> Image.Image:
    """Return the picture with its width and height times a factor each."""
    size = max(1, round(image.width * wide)), max(1, round(image.height * high))
    return image.resize(size, Image.Resampling.BICUBIC)


def crop_centre(image: Image.Image, rng: Rng, part: float) -> Image.Image:
    """Return the middle of the picture, `part` of each side."""
    width, height = max(1, round(image.width * part)), max(1, round(image.height * part))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def crop_random(image: Image.Image, rng: Rng, area: float) -> Image.Image:
    """Return a part of the picture of this share of its area, anywhere, of nearly its shape."""
    skew = float(np.exp(rng.uniform(-0.2, 0.2)))
    wide, high = min(1.0, np.sqrt(area * skew)), min(1.0, np.sqrt(area / skew))
    width, height = max(1, round(image.width * wide)), max(1, round(image.height * high))
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def flip(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the mirror image, left for right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def quarter_turn(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the picture turned by 90 degrees, one way or the other."""
    turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
    return image.transpose(turns[int(rng.integers(2))])


def rotate(image: Image.Image, rng: Rng, degrees: float) -> Image.Image:
    """Return the picture turned one way or the other about its middle, with grey corners."""
    way = degrees if rng.random() < 0.5 else -degrees
    return image.rotate(way, Image.Resampling.BICUBIC, fillcolor=GREY)


def light(
    image: Image.Image,
    rng: Rng,
    brightness: float = 1.0,
    contrast: float = 1.0,
    colour: float = 1.0,
) -> Image.Image:
    """Return the picture with brightness, contrast and colourfulness times a factor each."""
    for enhance, factor in (
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, colour),
    ):
        if factor != 1.0:
            image = enhance(image).enhance(factor)
    return image


def gamma(image: Image.Image, rng: Rng, power: float) -> Image.Image:
    """Return the picture with every value v in 0..1 made v to that power."""
    curve = [round(255 * (value / 255) ** power) for value in range(256)]
    return image.point(curve * 3)


def blur(image: Image.Image, rng: Rng, sigma: float) -> Image.Image:
    """Return the picture under a Gaussian blur, `sigma` in stored pixels."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def noise(image: Image.Image, rng: Rng, sigma: float) -> Image.Image:
    """Return the picture with Gaussian noise on every value, `sigma` of 0..255."""
    values = np.asarray(image, np.float32)
    noisy = values + rng.standard_normal(values.shape, np.float32) * np.float32(sigma)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
