"""Pictures of random colours and sizes."""

from __future__ import annotations

import numpy as np
from PIL import Image


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        coarse = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        side = int(rng.integers(60, 260))
        images.append(Image.fromarray(coarse).resize((side, 120), Image.Resampling.BICUBIC))
    return images
