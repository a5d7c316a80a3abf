"""Views of the training pictures with the teacher's answers, kept on disk."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from training.pictures import CHUNK, SIDE, TOKENS, Pixels, decode, random_view
from training.teacher import Teacher, on_every_core


@dataclass(frozen=True)
class Views:
    """Views of the pictures with the teacher's answers; the V views of one stand together."""

    pixels: Pixels
    """[N * V, SIDE, SIDE, 3]"""
    cls: npt.NDArray[np.float16]
    """[N * V, 192]"""
    patches: npt.NDArray[np.float16]
    """[N * V, 49, 192]"""


def make_views(
    images: list[bytes], kinds: range, seed: int, teacher: Teacher, folder: Path
) -> Views:
    """Draw a view of each kind of each picture; a finished folder is used again."""
    rows = len(images) * len(kinds)
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
        _fill(maps, images, kinds, seed, teacher)
        done.write_text(f"{rows}\n")
    return Views(pixels=maps["pixels"], cls=maps["cls"], patches=maps["patches"])


def _fill(
    maps: dict[str, Any], images: list[bytes], kinds: range, seed: int, teacher: Teacher
) -> None:
    count = len(kinds)

    def draw(index: int) -> list[Pixels]:
        rng = random.Random(seed * 1_000_003 + index)
        image = decode(images[index])
        return [random_view(image, kind, rng) for kind in kinds]

    def fill(start: int) -> None:
        indices = range(start, min(start + CHUNK, len(images)))
        pixels = np.stack([view for index in indices for view in draw(index)])
        cls, patches = teacher.features(torch.from_numpy(pixels))
        rows = slice(start * count, start * count + len(pixels))
        maps["pixels"][rows] = pixels
        maps["cls"][rows] = cls.cpu().numpy()
        maps["patches"][rows] = patches.cpu().numpy()

    started = time.monotonic()
    for number, _ in enumerate(on_every_core(fill, range(0, len(images), CHUNK))):
        if number % 100 == 0:
            print(
                f"views: {number * CHUNK} pictures, {time.monotonic() - started:.0f} s", flush=True
            )
