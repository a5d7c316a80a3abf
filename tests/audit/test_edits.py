"""The edits: each takes an image of any size, depends only on its seed, and does what its name says."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from PIL import Image

from curation.inspect.audit import effects
from curation.inspect.audit.edits import EDITS, STRENGTHS, apply_edit
from curation.inspect.audit.transforms import encode_image

from ..e2e.small import picture

ID = "0123456789abcdef" * 2
WIDE, HIGH = 160, 120
RNG = np.random.default_rng(1)


def plain(width: int = WIDE, height: int = HIGH) -> Image.Image:
    return picture(1, np.random.default_rng(0), side=160).resize((width, height))


def opened(name: str, image: Image.Image, seed: int = 0) -> Image.Image:
    with Image.open(io.BytesIO(apply_edit(image, name, ID, seed))) as edited:
        return edited.convert("RGB")


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image, float)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_seeded_and_changes_the_image(name: str) -> None:
    image = plain()
    before = values(image).copy()
    first = apply_edit(image, name, ID, 5)
    assert first == apply_edit(image, name, ID, 5)
    assert first != encode_image(image, "JPEG", 90)
    np.testing.assert_array_equal(values(image), before)
    assert EDITS[name].strength in STRENGTHS


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 3), (17, 16)])
def test_an_edit_takes_an_image_of_any_size(name: str, size: tuple[int, int]) -> None:
    assert min(opened(name, plain(*size)).size) >= 1


def test_edits_differ_by_seed_and_image() -> None:
    files = {apply_edit(plain(), "crop_random_40", i, s) for i in (ID, ID[::-1]) for s in (0, 1)}
    assert len(files) == 4


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resize_half", (80, 60)),
        ("upscale_1.4", (224, 168)),
        ("stretch_1.25", (200, 120)),
        ("crop_centre_75", (120, 90)),
        ("rotate_90", (120, 160)),
        ("rotate_4", (160, 120)),
    ],
)
def test_edits_change_the_size_by_their_factor(name: str, size: tuple[int, int]) -> None:
    assert opened(name, plain()).size == size


@pytest.mark.parametrize(("name", "area"), [("crop_random_60", 0.6), ("crop_random_40", 0.4)])
def test_a_random_crop_keeps_its_share_of_the_area(name: str, area: float) -> None:
    cropped = opened(name, plain())
    assert cropped.width * cropped.height / (WIDE * HIGH) == pytest.approx(area, abs=0.05)


def test_transforms_change_pixels_as_they_should() -> None:
    image = plain()
    before = values(image)
    flipped = values(opened("flip", image))
    assert np.abs(flipped - before[:, ::-1]).mean() < 6 < np.abs(flipped - before).mean()
    assert values(opened("brightness_up", image)).mean() > before.mean() + 10
    assert values(opened("brightness_down", image)).mean() < before.mean() - 10
    grey = values(opened("greyscale", image))
    assert np.ptp(grey, axis=2).max() <= 4
    assert (
        np.ptp(values(opened("desaturate", image)), axis=2).mean() < np.ptp(before, axis=2).mean()
    )
    gradients = [
        np.abs(np.diff(values(opened(n, image)), axis=1)).mean() for n in ("blur_2.5", "noise")
    ]
    assert gradients[0] < np.abs(np.diff(before, axis=1)).mean() < gradients[1]


@pytest.mark.parametrize("name", ["border", "meme_text", "screenshot_browser", "screenshot_phone"])
def test_frames_leave_the_image_complete(name: str) -> None:
    framed, before = values(opened(name, plain())), values(plain())
    assert framed.shape[0] > HIGH
    places = [
        (top, left)
        for top in range(framed.shape[0] - HIGH + 1)
        for left in range(framed.shape[1] - WIDE + 1)
    ]
    differences = [np.abs(framed[t : t + HIGH, x : x + WIDE] - before).mean() for t, x in places]
    assert min(differences) < 6


@pytest.mark.parametrize("name", ["logo", "text_line", "watermark"])
def test_overlays_leave_most_of_the_image(name: str) -> None:
    difference = np.abs(values(opened(name, plain())) - values(plain())).max(axis=2)
    assert 0.01 < (difference > 60).mean() < 0.4


def test_effects_change_pixels_as_they_should() -> None:
    image = plain()
    before = values(image)
    assert len(np.unique(np.asarray(effects.posterise(image, RNG, 3)))) <= 8
    colours = effects.dither(image, RNG, 16).getcolors()
    assert colours is not None and len(colours) <= 16
    tiles = np.asarray(effects.pixelate(image, RNG, 12))
    assert len(np.unique(tiles.reshape(-1, 3), axis=0)) <= 12 * 16
    brightness = values(effects.vignette(image, RNG, 0.5)).mean(axis=2) / before.mean(axis=2).clip(
        1
    )
    assert brightness[0, 0] < 0.75 * brightness[HIGH // 2, WIDE // 2]
    blurred = values(effects.motion_blur(image, RNG, 0.06))
    assert blurred.mean() == pytest.approx(before.mean(), abs=2)
    gradients = [sum(np.abs(np.diff(v, axis=a)).mean() for a in (0, 1)) for v in (blurred, before)]
    assert gradients[0] < 0.9 * gradients[1]


@pytest.mark.parametrize(
    ("edit", "least"),
    [(partial(effects.lens, distortion=0.12), 2), (partial(effects.wave, amplitude=0.03), 1)],
)
def test_distortions_move_pixels_a_little(
    edit: Callable[[Image.Image, np.random.Generator], Image.Image], least: int
) -> None:
    # The values of a ramp from left to right show where each pixel came from.
    ramp = np.tile(np.linspace(0, 255, WIDE), (HIGH, 1))
    image = Image.fromarray(np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8))
    moved = np.abs(values(edit(image, RNG))[..., 0] - ramp) * (WIDE - 1) / 255
    assert least < moved.max() < WIDE / 8
