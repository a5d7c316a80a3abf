"""Images of the training: decoding, crops and views, and common names and sizes."""

from __future__ import annotations

import io
import math
import random
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from curation.media.encoders import vit_micro

TEACHER: Final = "vit_tiny_patch16_224"
TEACHER_SIZE: Final = 224
TEACHER_RESIZE: Final = 248
SIDE: Final = 144
"""Side of the student's input in training, in pixels. It retrieves better at vit_micro.INPUT_SIZE:
views of images of 112 px are as blurred as images of about 150 px at that size."""
TOKENS: Final = SIDE // 16
SMALL_SIDE: Final = 112
Vectors: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Bits: TypeAlias = npt.NDArray[np.bool_]
Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK: Final = 16
"""Images that are encoded together; few, so that their activations stay in the cache."""

NEAR_COSINE: Final = 0.93
"""Teacher cosine from which two images count as near-copies, for any dHash."""
NEAR_BITS: Final = 40
"""Bits of 256 in which near-copies may differ, if their cosine is at least NEAR_BITS_COSINE."""
NEAR_BITS_COSINE: Final = 0.6


def decode(data: bytes) -> Image.Image:
    """Return an encoded image in RGB, turned upright."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def centre_crop(image: Image.Image, resize: int, side: int) -> Image.Image:
    """Resize the shorter side to `resize` px, and crop the central square of `side` px."""
    width, height = image.size
    scale = resize / min(width, height)
    image = image.resize(
        (max(resize, int(width * scale)), max(resize, int(height * scale))),
        Image.Resampling.BICUBIC,
    )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def student_pixels(image: Image.Image) -> Pixels:
    """Return the input of the student in use: uint8 [INPUT_SIZE, INPUT_SIZE, 3]."""
    side = vit_micro.INPUT_SIZE
    return np.asarray(centre_crop(image, int(side / vit_micro.CROP_PCT), side))


def teacher_pixels(image: Image.Image) -> Pixels:
    """Return the input of the teacher: uint8 [224, 224, 3]."""
    return np.asarray(centre_crop(image, TEACHER_RESIZE, TEACHER_SIZE))


def dhash256(image: Image.Image) -> Bits:
    """Return which pixels of a 16 x 17 grey thumbnail are darker than their right neighbours: [256]."""
    grey = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.LANCZOS), dtype=np.int16)
    result: Bits = (grey[:, 1:] > grey[:, :-1]).reshape(-1)
    return result


def read_images(path: Path) -> list[bytes]:
    """Return the encoded images of a Parquet file with a column `image`."""
    column: list[bytes] = pq.read_table(path, columns=["image"])["image"].to_pylist()
    return column


def normalise(pixels: Tensor) -> Tensor:
    """Return images uint8 [B, H, W, 3] as float [B, 3, H, W] in -1..1, for teacher and student."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def random_view(image: Image.Image, kind: int, rng: random.Random) -> Pixels:
    """Return a view for the teacher, [224, 224, 3]: the centre if `kind` is 0, else a random crop."""
    if kind == 0:
        return teacher_pixels(image)
    view = image.resize(
        (TEACHER_SIZE, TEACHER_SIZE), Image.Resampling.BICUBIC, box=_random_box(image.size, rng)
    )
    if rng.random() < 0.5:
        view = ImageOps.mirror(view)
    if rng.random() < 0.8:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            view = enhance(view).enhance(rng.uniform(0.75, 1.25))
    if rng.random() < 0.3:
        view = view.filter(
            ImageFilter.UnsharpMask(radius=1, percent=rng.randint(30, 120), threshold=0)
        )
    return np.asarray(view)


def mixture(first: Pixels, second: Pixels, rng: random.Random) -> Pixels:
    """Blend two views of one size (mixup), or paste a square of the second into the first (CutMix)."""
    share = rng.random()
    if rng.random() < 0.5:
        blend = first.astype(np.float32) * share + second.astype(np.float32) * (1 - share)
        return blend.round().astype(np.uint8)
    side = len(first)
    height = width = int(side * math.sqrt(1 - share))
    top, left = rng.randint(0, side - height), rng.randint(0, side - width)
    result = first.copy()
    window = slice(top, top + height), slice(left, left + width)
    result[window] = second[window]
    return result


def student_view(view: Pixels) -> Pixels:
    """Return a view of the teacher as input of the student: [SIDE, SIDE, 3]."""
    return np.asarray(Image.fromarray(view).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _random_box(size: tuple[int, int], rng: random.Random) -> tuple[float, float, float, float]:
    width, height = size
    area = width * height * rng.uniform(0.35, 1.0)
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    box_width, box_height = (
        min(width, math.sqrt(area * aspect)),
        min(height, math.sqrt(area / aspect)),
    )
    left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height
