"""Pictures: decoding, crops, views, and the names and sizes that all of the training shares."""

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
"""Side of the student's input in training. It retrieves better at vit_micro.INPUT_SIZE: views of 112 px
pictures are as blurred as pictures of about 150 px at that size."""
TOKENS: Final = SIDE // 16
SMALL_SIDE: Final = 112
Vectors: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.int64]
Pixels: TypeAlias = npt.NDArray[np.uint8]
Bits: TypeAlias = npt.NDArray[np.bool_]
Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK: Final = 16
"""Pictures in a piece of work; small, so that a piece's activations stay in the cache."""

NEAR_COSINE: Final = 0.93
"""Teacher cosine from which two pictures count as near-copies, whatever their dHash."""
NEAR_BITS: Final = 40
"""Bits of 256 in which near-copies may differ, if their cosine is at least NEAR_BITS_COSINE."""
NEAR_BITS_COSINE: Final = 0.6


def decode(data: bytes) -> Image.Image:
    """Encoded bytes to an upright RGB picture."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def centre_crop(image: Image.Image, resize: int, side: int) -> Image.Image:
    """Resize the shorter side to `resize` px and cut out the central square of `side` px."""
    width, height = image.size
    scale = resize / min(width, height)
    image = image.resize(
        (max(resize, int(width * scale)), max(resize, int(height * scale))),
        Image.Resampling.BICUBIC,
    )
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def student_pixels(image: Image.Image) -> Pixels:
    """A picture as the student sees it in use: [INPUT_SIZE, INPUT_SIZE, 3], 0..255."""
    side = vit_micro.INPUT_SIZE
    return np.asarray(centre_crop(image, int(side / vit_micro.CROP_PCT), side))


def teacher_pixels(image: Image.Image) -> Pixels:
    """A picture as the teacher sees it: [224, 224, 3], 0..255."""
    return np.asarray(centre_crop(image, TEACHER_RESIZE, TEACHER_SIZE))


def dhash256(image: Image.Image) -> Bits:
    """Whether each pixel of a 16 x 17 grey thumbnail is darker than its right neighbour: [256]."""
    grey = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.LANCZOS), dtype=np.int16)
    result: Bits = (grey[:, 1:] > grey[:, :-1]).reshape(-1)
    return result


def read_images(path: Path) -> list[bytes]:
    """The encoded pictures of a Parquet file with a column `image`."""
    column: list[bytes] = pq.read_table(path, columns=["image"])["image"].to_pylist()
    return column


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in -1..1, as teacher and student both expect."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def random_view(image: Image.Image, kind: int, rng: random.Random) -> Pixels:
    """A view of a picture as the teacher sees it, [224, 224, 3]; kind 0 is the centre."""
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
    """Two views of one size laid over each other, or a rectangle of one cut into the other."""
    share = rng.random()
    if rng.random() < 0.5:
        both = first.astype(np.float32) * share + second.astype(np.float32) * (1 - share)
        return both.round().astype(np.uint8)
    side = len(first)
    height = width = int(side * math.sqrt(1 - share))
    top, left = rng.randint(0, side - height), rng.randint(0, side - width)
    result = first.copy()
    cut = slice(top, top + height), slice(left, left + width)
    result[cut] = second[cut]
    return result


def student_view(view: Pixels) -> Pixels:
    """The same view as the student sees it: [SIDE, SIDE, 3]."""
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
