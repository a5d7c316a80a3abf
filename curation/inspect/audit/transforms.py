"""Basic edits of an image: resize, crop, flip, rotate, adjust colours, blur, add noise.

Every edit takes an RGB image and a random generator. It returns an RGB image whose sides have at least
one pixel.
"""

from __future__ import annotations

import io
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

Rng: TypeAlias = np.random.Generator
GREY = (128, 128, 128)


def encode_image(image: Image.Image, file_format: str, quality: int) -> bytes:
    """Return an image as the bytes of a file of that format (`JPEG`, `WEBP`) and quality."""
    out = io.BytesIO()
    image.save(out, file_format, quality=quality)
    return out.getvalue()


def resize(image: Image.Image, rng: Rng, width_scale: float, height_scale: float) -> Image.Image:
    """Return the image with its width and its height multiplied by a factor each."""
    size = max(1, round(image.width * width_scale)), max(1, round(image.height * height_scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def crop_centre(image: Image.Image, rng: Rng, fraction: float) -> Image.Image:
    """Return the centre of the image: this fraction of its width and of its height."""
    width, height = max(1, round(image.width * fraction)), max(1, round(image.height * fraction))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def crop_random(image: Image.Image, rng: Rng, area: float) -> Image.Image:
    """Return a crop at a random place: this fraction of the area, with nearly the same aspect ratio."""
    skew = float(np.exp(rng.uniform(-0.2, 0.2)))
    width_fraction, height_fraction = min(1.0, np.sqrt(area * skew)), min(1.0, np.sqrt(area / skew))
    width = max(1, round(image.width * width_fraction))
    height = max(1, round(image.height * height_fraction))
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def flip(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image mirrored from left to right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def quarter_turn(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image rotated by 90 degrees, clockwise or counterclockwise at random."""
    turns = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
    return image.transpose(turns[int(rng.integers(2))])


def rotate(image: Image.Image, rng: Rng, degrees: float) -> Image.Image:
    """Return the image rotated about its centre in a random direction, with grey corners."""
    angle = degrees if rng.random() < 0.5 else -degrees
    return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=GREY)


def adjust(
    image: Image.Image,
    rng: Rng,
    brightness: float = 1.0,
    contrast: float = 1.0,
    colour: float = 1.0,
) -> Image.Image:
    """Return the image with brightness, contrast and colourfulness multiplied by a factor each."""
    for enhance, factor in (
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, colour),
    ):
        if factor != 1.0:
            image = enhance(image).enhance(factor)
    return image


def gamma(image: Image.Image, rng: Rng, exponent: float) -> Image.Image:
    """Return the image with every value v in 0..1 replaced by v to the power of `exponent`."""
    curve = [round(255 * (value / 255) ** exponent) for value in range(256)]
    return image.point(curve * 3)


def blur(image: Image.Image, rng: Rng, sigma: float) -> Image.Image:
    """Return the image after a Gaussian blur, with `sigma` in pixels of the stored image."""
    return image.filter(ImageFilter.GaussianBlur(sigma))


def noise(image: Image.Image, rng: Rng, sigma: float) -> Image.Image:
    """Return the image with Gaussian noise added to every value, with `sigma` on the scale 0..255."""
    values = np.asarray(image, np.float32)
    noisy = values + rng.standard_normal(values.shape, np.float32) * np.float32(sigma)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
