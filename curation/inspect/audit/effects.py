"""Edits that imitate filters, cameras and old devices.

The copy descriptors of this project were trained on none of them.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from curation.inspect.audit.transforms import Rng

Floats = npt.NDArray[np.floating]


def _to_image(values: Floats) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _centred_grid(image: Image.Image) -> tuple[Floats, Floats]:
    """Return x and y of each pixel, (height, width) each: −1 to 1, with 0 in the centre."""
    across, down = (np.linspace(-1, 1, side, dtype=np.float32) for side in image.size)
    x, y = np.meshgrid(across, down)
    return x, y


def _remap(image: Image.Image, x: Floats, y: Floats) -> Image.Image:
    """Return the image with each pixel taken from the place (x, y) of the centred grid."""
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
    """Return the image with `bits` bits per colour value."""
    return ImageOps.posterize(image, bits)


def dither(image: Image.Image, rng: Rng, colours: int) -> Image.Image:
    """Return the image in `colours` colours, with error diffusion (Floyd and Steinberg 1976)."""
    palette = image.quantize(colours, Image.Quantize.MEDIANCUT)
    return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB")


def pixelate(image: Image.Image, rng: Rng, tiles: int) -> Image.Image:
    """Return the image as tiles of one colour each, with `tiles` of them along the shorter side."""
    scale = min(1.0, tiles / min(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image.resize(size, Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def vignette(image: Image.Image, rng: Rng, darkening: float) -> Image.Image:
    """Return the image in sepia, with its corners darkened by this fraction."""
    weights = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    x, y = _centred_grid(image)
    shade = 1 - darkening * (x * x + y * y) / 2
    toned = np.asarray(image, np.float32) @ weights.T.astype(np.float32)
    return _to_image(toned * shade[..., None])


def motion_blur(image: Image.Image, rng: Rng, fraction: float) -> Image.Image:
    """Return the image blurred along a line, which is this fraction of the shorter side long."""
    length = max(3, round(min(image.size) * fraction)) | 1
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    centre = ((length - 1) / 2, (length - 1) / 2)
    rotation = cv2.getRotationMatrix2D(centre, float(rng.uniform(0, 180)), 1.0)
    kernel = np.asarray(cv2.warpAffine(line, rotation, (length, length)))
    weights, values = kernel / kernel.sum(), np.asarray(image, np.float32)
    blurred = cv2.filter2D(values, -1, weights, borderType=cv2.BORDER_REFLECT_101)
    return _to_image(np.asarray(blurred, np.float32))


def lens(image: Image.Image, rng: Rng, distortion: float) -> Image.Image:
    """Return the image with barrel distortion, as a wide-angle lens makes it."""
    x, y = _centred_grid(image)
    scale = (1 + distortion * (x * x + y * y)) / (1 + 2 * distortion)
    return _remap(image, x * scale, y * scale)


def wave(image: Image.Image, rng: Rng, amplitude: float) -> Image.Image:
    """Return the image bent in waves; `amplitude` is a fraction of half a side."""
    x, y = _centred_grid(image)
    x_phase, y_phase = rng.uniform(0, 2 * np.pi, 2)
    across = x + amplitude * np.sin(2 * np.pi * y + x_phase)
    down = y + amplitude * np.sin(2 * np.pi * x + y_phase)
    return _remap(image, across.astype(np.float32), down.astype(np.float32))


def screen_photo(image: Image.Image, rng: Rng) -> Image.Image:
    """Return the image as a photograph of a screen: in perspective, bluish, with moiré and glare."""
    width, height = image.size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    outwards = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    moved = corners + outwards * rng.uniform(-0.08, 0.02, (4, 2)) * [width, height]
    perspective = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    values = cv2.warpPerspective(
        np.asarray(image),
        perspective,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderValue=(18, 20, 24),
    ).astype(np.float32)
    row, column = np.mgrid[0:height, 0:width].astype(np.float32)
    pitch, slant = rng.uniform(2.3, 3.7), rng.uniform(-0.3, 0.3)
    lines = 1 + 0.18 * np.sin(2 * np.pi * (row + slant * column) / pitch)
    glare = 40 * np.exp(-((row / height - 0.25) ** 2 + (column / width - rng.random()) ** 2) / 0.05)
    tint = np.array([0.88, 0.97, 1.08], np.float32)
    return _to_image(values * lines[..., None] * tint + glare[..., None])
