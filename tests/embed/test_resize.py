"""Resizing without torchvision gives the pixels of torchvision."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from curation.media.encoders import encoder
from curation.media.encoders.encoder import resize_and_crop

SIDE = 96


@pytest.mark.parametrize("size", [[96], [107], [96, 96], [110, 130]], ids=str)
def test_pixels_are_those_of_torchvision(size: list[int]) -> None:
    rng = np.random.default_rng(len(size))
    transform = resize_and_crop(size, SIDE, "bicubic")
    shapes = [(1, 1), (1, 50), (107, 300), (300, 107), (96, 96), (95, 97), (31, 700)]
    shapes += [tuple(rng.integers(1, 400, 2)) for _ in range(60)]
    for height, width in shapes:
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        resized = functional.resize(
            pixels, size, interpolation=InterpolationMode.BICUBIC, antialias=True
        )
        expected = functional.center_crop(resized, [SIDE, SIDE])
        assert torch.equal(transform(image), expected), (height, width)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_of_a_picture_that_is_very_long_only_the_middle_is_resized(
    monkeypatch: pytest.MonkeyPatch, interpolation: str
) -> None:
    transform = resize_and_crop([SIDE], SIDE, interpolation)
    levels = np.linspace(0, 255, 4000).astype(np.uint8)
    for shape in ((40, 4000), (4000, 40), (40, 4001)):
        image = np.empty((*shape, 3), np.uint8)
        long = np.resize(levels, max(shape))
        image[:] = (long[None, :, None] if shape[0] < shape[1] else long[:, None, None]) // 3
        whole = transform(image).int()
        with monkeypatch.context() as limited:
            limited.setattr(encoder, "MAX_RESIZED_PIXELS", 20 * SIDE**2)
            for given in (image, Image.fromarray(image)):
                part = encoder._shortened(given, SIDE)
                width, height = part.size if isinstance(part, Image.Image) else part.shape[1::-1]
                assert max(width, height) in (800, 801)
                assert (transform(given).int() - whole).abs().max() <= 2
    assert encoder._shortened(np.empty((1, 65_500, 3), np.uint8), 1024).shape[1] <= 65
    assert (transform(np.full((1, 65_500, 3), 7, np.uint8)) == 7).all()


def test_a_packaged_encoder_needs_no_torchvision() -> None:
    """Its import takes seconds in every worker."""
    code = (
        "import sys; from curation.media.encoders import packaged; "
        "from curation.media.encoders.encoder import resize_and_crop; "
        "resize_and_crop([213], 192, 'bicubic'); print('torchvision' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
