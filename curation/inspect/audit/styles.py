"""Edits of filters, cameras and old devices: no copy descriptor of this project was trained on them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from curation.inspect.audit.pixels import Rng

Floats = npt.NDArray[np.floating]


def _image(values: Floats) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _from_middle(image: Image.Image) -> tuple[Floats, Floats]:
    """Return how far each pixel is from the middle, right and down, in half sides: (height, width)."""
    across, down = (np.linspace(-1, 1, side, dtype=np.float32) for side in image.size)
    x, y = np.meshgrid(across, down)
    return x, y


def _looked_up(image: Image.Image, x: Floats, y: Floats) -> Image.Image:
    """Return the picture whose pixels come from other places, in half sides from the middle."""
    columns, rows = (x + 1) * (image.width - 1) / 2, (y + 1) * (image.height - 1) / 2
    return Image.fromarray(
        cv2.remap(
            np.asarray(image),
            columns.astype(np.float32),
            rows.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def posterise(image: Image.Image, rng: Rng, bits: int) -> Image.Image:
    """Return the picture with `bits` bits a value."""
    return ImageOps.posterize(image, bits)


def dither(image: Image.Image, rng: Rng, colours: int) -> Image.Image:
    """Return the picture in few colours, their errors spread (Floyd and Steinberg 1976)."""
    few = image.quantize(colours, Image.Quantize.MEDIANCUT)
    return image.quantize(palette=few, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")


def pixelate(image: Image.Image, rng: Rng, across: int) -> Image.Image:
    """Return the picture as tiles of one colour, `across` of them along its shorter side."""
    scale = min(1.0, across / min(image.size))
    few = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image.resize(few, Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def vignette(image: Image.Image, rng: Rng, dark: float) -> Image.Image:
    """Return the picture in sepia, its corners darker by this share."""
    weights = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    x, y = _from_middle(image)
    shade = 1 - dark * (x * x + y * y) / 2
    toned = np.asarray(image, np.float32) @ weights.T.astype(np.float32)
    return _image(toned * shade[..., None])


def motion_blur(image: Image.Image, rng: Rng, part: float) -> Image.Image:
    """Return the picture smeared along a line of this part of its shorter side."""
    length = max(3, round(min(image.size) * part)) | 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    middle = ((length - 1) / 2, (length - 1) / 2)
    turn = cv2.getRotationMatrix2D(middle, float(rng.uniform(0, 180)), 1.0)
    turned = np.asarray(cv2.warpAffine(line, turn, (length, length)))
    weights, values = turned / turned.sum(), np.asarray(image, np.float32)
    smeared = cv2.filter2D(values, -1, weights, borderType=cv2.BORDER_REFLECT_101)
    return _image(np.asarray(smeared, np.float32))


def lens(image: Image.Image, rng: Rng, bulge: float) -> Image.Image:
    """Return the picture as a wide lens shows it: its middle larger, its corners bent."""
    x, y = _from_middle(image)
    scale = (1 + bulge * (x * x + y * y)) / (1 + 2 * bulge)
    return _looked_up(image, x * scale, y * scale)


def wave(image: Image.Image, rng: Rng, height: float) -> Image.Image:
    """Return the picture in waves, `height` in half sides."""
    x, y = _from_middle(image)
    first, second = rng.uniform(0, 2 * np.pi, 2)
    across = x + height * np.sin(2 * np.pi * y + first)
    down = y + height * np.sin(2 * np.pi * x + second)
    return _looked_up(image, across.astype(np.float32), down.astype(np.float32))


def screen_photo(image: Image.Image, rng: Rng) -> Image.Image:
    """Return a photograph of the picture on a screen: aslant, bluish, with the screen's lines."""
    width, height = image.size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    outwards = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    seen = corners + outwards * rng.uniform(-0.08, 0.02, (4, 2)) * [width, height]
    slant = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))
    values = cv2.warpPerspective(
        np.asarray(image), slant, (width, height), flags=cv2.INTER_LINEAR, borderValue=(18, 20, 24)
    ).astype(np.float32)
    row, column = np.mgrid[0:height, 0:width].astype(np.float32)
    pitch, lean = rng.uniform(2.3, 3.7), rng.uniform(-0.3, 0.3)
    lines = 1 + 0.18 * np.sin(2 * np.pi * (row + lean * column) / pitch)
    glare = 40 * np.exp(-((row / height - 0.25) ** 2 + (column / width - rng.random()) ** 2) / 0.05)
    tint = np.array([0.88, 0.97, 1.08], np.float32)
    return _image(values * lines[..., None] * tint + glare[..., None])
