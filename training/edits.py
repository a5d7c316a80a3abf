"""Random edits of images, to which a copy descriptor is trained to be invariant.

The kinds of edits are those of SSCD (Pizzi et al. 2022, section 4.1 and appendix B): crops, rotations,
colours, blur, re-encoding, overlays, text, borders. Colours change little, since a flag in another
colour is another flag.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np

from training.pictures import Pixels

Rng: TypeAlias = np.random.Generator
Edit: TypeAlias = Callable[[Pixels, Rng, list[Pixels]], Pixels]
"""From an image [H, W, 3], random numbers and other images for overlays, to the edited image."""

FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)
LETTERS = string.ascii_letters + string.digits + "   .,!?-@"


def _clip(values: np.ndarray) -> Pixels:
    return _pixels(np.clip(values, 0, 255).astype(np.uint8))


def _pixels(values: Any) -> Pixels:
    """Return what OpenCV gave, whose stubs do not say that it keeps the type of its input."""
    return np.asarray(values, np.uint8)


def _colour(rng: Rng) -> tuple[int, int, int]:
    if rng.random() < 0.6:
        grey = int(rng.choice([0, 255]))
        return grey, grey, grey
    return tuple(int(v) for v in rng.integers(0, 256, 3))  # type: ignore[return-value]


# -- geometry -------------------------------------------------------------------------------------


def crop(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Crop to 25 to 100 % of the area, with a similar aspect ratio."""
    height, width = image.shape[:2]
    part = rng.uniform(0.25, 1.0)
    shape = math.exp(rng.uniform(-0.35, 0.35))
    high = max(16, round(height * min(1.0, math.sqrt(part / shape))))
    wide = max(16, round(width * min(1.0, math.sqrt(part * shape))))
    top = int(rng.integers(0, max(1, height - high + 1)))
    left = int(rng.integers(0, max(1, width - wide + 1)))
    return image[top : top + high, left : left + wide]


def mirror(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    return image[:, ::-1]


def rotate_by_90(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    return np.rot90(image, int(rng.choice([1, 2, 3])))


def rotate(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Rotate by up to 15 degrees; corners are cropped, filled or reflected."""
    height, width = image.shape[:2]
    angle = rng.uniform(-15, 15)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    edge = int(rng.choice([cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE]))
    turned = cv2.warpAffine(
        image, matrix, (width, height), borderMode=edge, borderValue=_colour(rng)
    )
    if rng.random() < 0.3:
        part = 1 - 0.9 * abs(math.sin(math.radians(angle)))
        high, wide = int(height * part), int(width * part)
        top, left = (height - high) // 2, (width - wide) // 2
        turned = turned[top : top + high, left : left + wide]
    return _pixels(turned)


def perspective(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Change the perspective: each corner moves inwards by up to 12 %."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32)
    moved = corners + inwards * rng.uniform(0, 0.12, (4, 2)).astype(np.float32) * [width, height]
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return _pixels(cv2.warpPerspective(image, matrix, (width, height), borderValue=_colour(rng)))


def stretch(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    height, width = image.shape[:2]
    factor = math.exp(rng.uniform(-0.45, 0.45))
    return _pixels(cv2.resize(image, (max(16, round(width * factor)), height)))


def border(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Add a border of one colour, or bars on two sides."""
    height, width = image.shape[:2]
    sides = rng.uniform(0.02, 0.25, 4) if rng.random() < 0.3 else np.full(4, rng.uniform(0.02, 0.2))
    kind = rng.random()
    if kind < 0.2:
        sides[:2] = 0
    elif kind < 0.4:
        sides[2:] = 0
    top, bottom = (int(v * height) for v in sides[:2])
    left, right = (int(v * width) for v in sides[2:])
    framed = cv2.copyMakeBorder(
        image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=_colour(rng)
    )
    return _pixels(framed)


def paste_on_other(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Paste the image, reduced, on another one."""
    back = others[int(rng.integers(len(others)))].copy()
    height, width = back.shape[:2]
    part = rng.uniform(0.6, 0.9)
    high, wide = int(height * part), int(width * part)
    top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
    back[top : top + high, left : left + wide] = cv2.resize(
        image, (wide, high), interpolation=cv2.INTER_AREA
    )
    return back


# -- overlays -------------------------------------------------------------------------------------


def _write(image: Pixels, rng: Rng, text: str, position: tuple[int, int], high: float) -> None:
    scale = high / 22
    thick = max(1, round(scale * rng.uniform(0.8, 2.5)))
    font = int(rng.choice(FONTS))
    if rng.random() < 0.5:
        cv2.putText(image, text, position, font, scale, _colour(rng), thick + 2, cv2.LINE_AA)
    cv2.putText(image, text, position, font, scale, _colour(rng), thick, cv2.LINE_AA)


def _words(rng: Rng, max_length: int = 24) -> str:
    return "".join(rng.choice(list(LETTERS), int(rng.integers(3, max_length))))


def text(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Write one to three lines at random places."""
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 4))):
        position = (
            int(rng.integers(-width // 8, width // 2)),
            int(rng.integers(height // 10, height)),
        )
        _write(image, rng, _words(rng), position, rng.uniform(0.06, 0.22) * height)
    return image


def meme(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Write lines at the top and bottom, on bars or over the image."""
    height = image.shape[0]
    image = image.copy()
    bars = rng.random() < 0.5
    for end in ("top", "bottom") if rng.random() < 0.6 else (str(rng.choice(["top", "bottom"])),):
        high = int(rng.uniform(0.1, 0.28) * height)
        if bars:
            top, bottom = (high, 0) if end == "top" else (0, high)
            shade = int(rng.choice([0, 255]))
            longer = cv2.copyMakeBorder(
                image, top, bottom, 0, 0, cv2.BORDER_CONSTANT, value=(shade, shade, shade)
            )
            image = _pixels(longer)
        line = int(high * 0.8) if end == "top" else image.shape[0] - int(high * 0.2)
        _write(image, rng, _words(rng, 18).upper(), (2, line), high * 0.7)
    return image


def watermark(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Write translucent words, once or in rows, at a random angle."""
    layer = np.zeros_like(image)
    height, width = image.shape[:2]
    word, size = _words(rng, 12), rng.uniform(0.08, 0.25) * height
    rows = int(rng.integers(1, 5))
    for row in range(rows):
        position = int(rng.integers(-width // 6, width // 3)), int((row + 0.7) * height / rows)
        cv2.putText(layer, word, position, int(rng.choice(FONTS)), size / 22, (255, 255, 255), 2)
    angle = rng.uniform(-45, 45)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.2)
    mask = cv2.warpAffine(layer, matrix, (width, height)).astype(np.float32) / 255
    mask *= rng.uniform(0.25, 0.8)
    return _clip(image * (1 - mask) + np.array(_colour(rng), np.float32) * mask)


def sticker(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Paste another image, or a patch of colour, over up to a sixth of the image."""
    image = image.copy()
    height, width = image.shape[:2]
    part = rng.uniform(0.1, 0.4)
    high, wide = max(4, int(height * part)), max(4, int(width * part))
    top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
    position = image[top : top + high, left : left + wide]
    if rng.random() < 0.7:
        piece = cv2.resize(others[int(rng.integers(len(others)))], (wide, high))
    else:
        piece = np.full_like(position, _colour(rng))
    if rng.random() < 0.4:
        mask = np.zeros((high, wide), np.uint8)
        cv2.ellipse(mask, (wide // 2, high // 2), (wide // 2, high // 2), 0, 0, 360, 1, -1)
        piece = np.where(mask[..., None] > 0, piece, position)
    image[top : top + high, left : left + wide] = piece
    return image


def blend(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Blend with another image, by up to 30 %."""
    other = cv2.resize(others[int(rng.integers(len(others)))], image.shape[1::-1])
    share = rng.uniform(0.05, 0.3)
    return _clip(image * (1 - share) + other * share)


# -- pixels ---------------------------------------------------------------------------------------


def change_tones(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Change brightness, contrast and gamma."""
    values: np.ndarray = image.astype(np.float32)
    values = 255 * (values / 255) ** math.exp(rng.uniform(-0.7, 0.7))
    middle = values.mean()
    values = (values - middle) * math.exp(rng.uniform(-0.8, 0.5)) + middle
    return _clip(values * math.exp(rng.uniform(-0.6, 0.4)))


def tint(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Change the strength of each channel, and the saturation."""
    values = image.astype(np.float32) * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    return _clip(grey + (values - grey) * rng.uniform(0.2, 1.6))


def grey(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    shades = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return _pixels(cv2.cvtColor(shades, cv2.COLOR_GRAY2RGB))


def blur(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    width = rng.uniform(0.4, 2.2) * min(image.shape[:2]) / 112
    return _pixels(cv2.GaussianBlur(image, (0, 0), width))


def sharpen(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    soft = cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
    return _clip(image + rng.uniform(0.3, 1.5) * (image - soft))


def noise(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    return _clip(image + rng.normal(0, rng.uniform(4, 26), image.shape))


def reduce_resolution(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Reduce the resolution."""
    height, width = image.shape[:2]
    part = rng.uniform(0.3, 0.9)
    how = int(rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST]))
    size = max(16, int(width * part)), max(16, int(height * part))
    return _pixels(cv2.resize(image, size, interpolation=how))


def recompress(image: Pixels, rng: Rng, others: list[Pixels]) -> Pixels:
    """Encode as JPEG or WebP of quality 8 to 75."""
    quality = int(rng.integers(8, 76))
    if rng.random() < 0.8:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    else:
        _, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return _pixels(cv2.imdecode(data, cv2.IMREAD_COLOR))


GEOMETRY: tuple[tuple[Edit, float], ...] = (
    (crop, 0.5),
    (mirror, 0.3),
    (rotate_by_90, 0.15),
    (rotate, 0.15),
    (perspective, 0.08),
    (stretch, 0.2),
)
OVERLAYS: tuple[tuple[Edit, float], ...] = (
    (sticker, 0.15),
    (text, 0.15),
    (watermark, 0.12),
    (blend, 0.05),
    (paste_on_other, 0.08),
    (border, 0.12),
    (meme, 0.12),
)
PIXELS: tuple[tuple[Edit, float], ...] = (
    (change_tones, 0.4),
    (tint, 0.25),
    (grey, 0.12),
    (sharpen, 0.1),
    (blur, 0.25),
    (noise, 0.12),
    (reduce_resolution, 0.2),
    (recompress, 0.4),
)
"""Edits by kind, in the order in which they are applied, with the probability of each."""


def random_copy(image: Pixels, rng: Rng, others: list[Pixels], strength: float = 1.0) -> Pixels:
    """Return a random copy of an image; `strength` scales the probability of each edit."""
    for edits in (GEOMETRY, OVERLAYS, PIXELS):
        for edit, probability in edits:
            if rng.random() < probability * strength:
                image = np.ascontiguousarray(edit(np.ascontiguousarray(image), rng, others))
    return image
