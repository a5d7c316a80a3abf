"""Views of the training images with the features of the teacher, cached on disk."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from training.pictures import (
    CHUNK,
    SIDE,
    TOKENS,
    Pixels,
    decode,
    mixture,
    random_view,
    student_view,
)
from training.teacher import Teacher, on_every_core


@dataclass(frozen=True)
class Views:
    """Views of N images with the features of the teacher; the V views of an image are consecutive."""

    pixels: Pixels
    """[N * V, SIDE, SIDE, 3]"""
    cls: npt.NDArray[np.float16]
    """[N * V, 192]"""
    patches: npt.NDArray[np.float16]
    """[N * V, TOKENS ** 2, 192]"""


Draw = Callable[[int], list[Pixels]]
"""Returns the views of an image by its number; their number is always the same."""


def plain(images: list[bytes], count: int, seed: int) -> Draw:
    """Return a function that draws the centre of an image and `count` − 1 random crops."""

    def draw(index: int) -> list[Pixels]:
        rng = random.Random(seed * 1_000_003 + index)
        image = decode(images[index])
        return [random_view(image, kind, rng) for kind in range(count)]

    return draw


def mixed(images: list[bytes], count: int, seed: int) -> Draw:
    """Return a function that draws `count` mixtures of a crop of an image with crops of other images.

    The teacher sees the mixture itself, so that few images give many different targets (Beyer et al.
    2022, section 3.1).
    """

    def draw(index: int) -> list[Pixels]:
        rng = random.Random(seed * 1_000_003 + index)
        image = decode(images[index])
        others = (decode(images[rng.randrange(len(images))]) for _ in range(count))
        return [
            mixture(random_view(image, 1, rng), random_view(other, 1, rng), rng) for other in others
        ]

    return draw


def make_views(draw: Draw, pictures: int, count: int, teacher: Teacher, folder: Path) -> Views:
    """Return `count` views of each image; a finished folder is read, another one is written."""
    rows = pictures * count
    shapes = {
        "pixels": (rows, SIDE, SIDE, 3),
        "cls": (rows, 192),
        "patches": (rows, TOKENS**2, 192),
    }
    done = folder / "done"
    mode: Any = "r" if done.exists() else "w+"
    folder.mkdir(parents=True, exist_ok=True)
    maps = {
        name: np.memmap(
            folder / name,
            dtype=np.uint8 if name == "pixels" else np.float16,
            mode=mode,
            shape=shape,
        )
        for name, shape in shapes.items()
    }
    if not done.exists():
        _fill(maps, draw, pictures, count, teacher)
        done.write_text(f"{rows}\n")
    return Views(pixels=maps["pixels"], cls=maps["cls"], patches=maps["patches"])


def _fill(maps: dict[str, Any], draw: Draw, pictures: int, count: int, teacher: Teacher) -> None:
    def fill(start: int) -> None:
        indices = range(start, min(start + CHUNK, pictures))
        pixels = np.stack([view for index in indices for view in draw(index)])
        cls, patches = teacher.features(torch.from_numpy(pixels))
        rows = slice(start * count, start * count + len(pixels))
        maps["pixels"][rows] = np.stack([student_view(view) for view in pixels])
        maps["cls"][rows] = cls.cpu().numpy()
        maps["patches"][rows] = patches.cpu().numpy()

    started = time.monotonic()
    for number, _ in enumerate(on_every_core(fill, range(0, pictures, CHUNK))):
        if number % 100 == 0:
            print(f"views: {number * CHUNK} images, {time.monotonic() - started:.0f} s", flush=True)
