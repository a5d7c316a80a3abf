"""Edits that leave a graphic what it is, and changes of all colours of a photograph."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))


def encoded(image: Image.Image, quality: int = 90, file_format: str = "JPEG") -> bytes:
    """Return an image as a file."""
    stream = io.BytesIO()
    image.save(stream, file_format, quality=quality)
    return stream.getvalue()


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    left, top = round(image.width * (1 - share) / 2), round(image.height * (1 - share) / 2)
    return image.crop((left, top, image.width - left, image.height - top))


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG of quality 60": lambda image: encoded(image, 60),
    "JPEG of quality 30": lambda image: encoded(image, 30),
    "WebP": lambda image: encoded(image, 75, "WEBP"),
    "half the size": lambda image: encoded(_scaled(image, 0.5)),
    "1.4 times the size": lambda image: encoded(_scaled(image, 1.4)),
    "crop of 90 %": lambda image: encoded(_cropped(image, 0.9)),
    "crop of 75 %": lambda image: encoded(_cropped(image, 0.75)),
    "mirrored": lambda image: encoded(ImageOps.mirror(image)),
    "quarter turn": lambda image: encoded(image.rotate(90, expand=True)),
    "darker": lambda image: encoded(ImageEnhance.Brightness(image).enhance(0.7)),
}


def _by_matrix(image: Image.Image, matrix: object) -> Image.Image:
    weights = np.asarray(matrix, dtype=np.float32)
    values = np.asarray(image, dtype=np.float32) @ weights.T
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _by_curve(image: Image.Image, curve: Callable[[float], float]) -> Image.Image:
    return image.point([round(255 * min(1.0, max(0.0, curve(n / 255)))) for n in range(256)] * 3)


RECOLOURINGS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "grey": lambda image: image.convert("L").convert("RGB"),
    "sepia": lambda image: _by_matrix(image, SEPIA),
    "warmer": lambda image: _by_matrix(image, np.diag([1.1, 1.0, 0.85])),
    "cooler": lambda image: _by_matrix(image, np.diag([0.88, 1.0, 1.12])),
    "pale": lambda image: ImageEnhance.Color(image).enhance(0.35),
    "saturated": lambda image: ImageEnhance.Color(image).enhance(1.6),
    "gamma 1.7": lambda image: _by_curve(image, lambda value: value**1.7),
    "gamma 0.65": lambda image: _by_curve(image, lambda value: value**0.65),
    "faded": lambda image: _by_curve(image, lambda value: 0.2 + 0.75 * value),
    "more contrast": lambda image: _by_curve(image, lambda value: value**2 * (3 - 2 * value)),
}
