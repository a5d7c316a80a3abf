"""Edited copies agree; look-alikes and images with nothing to compare do not."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from curation.stages.verify.compare import Agreement, compare
from curation.stages.verify.reduced_image import ReducedImage, reduce_image


def encoded(image: Image.Image, kind: str = "JPEG", quality: int = 90) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return stream.getvalue()


def reduced(image: Image.Image, **options: Any) -> ReducedImage:
    small = reduce_image(encoded(image, **options))
    assert small is not None
    return ReducedImage.of(small)


def agrees(measured: Agreement) -> bool:
    return (
        measured.agreement >= 0.85
        and measured.steady >= 0.75
        and measured.inside >= 0.95
        and measured.hue <= 12
    )


def drawn(seed: int) -> Image.Image:
    """An image with shapes of many sizes and colours, and as much detail as a photograph."""
    rng = np.random.default_rng(seed)
    background = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (400, 300))
    image = Image.fromarray(background)
    pen = ImageDraw.Draw(image)
    for _ in range(120):
        x, y = int(rng.integers(0, 400)), int(rng.integers(0, 300))
        a, b = rng.integers(4, 50, 2)
        pen.ellipse((x, y, x + a, y + b), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: image.resize((200, 150)),
    "cropped": lambda image: image.crop((60, 50, 330, 270)),
    "small crop": lambda image: image.crop((120, 90, 330, 260)),
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.rotate(90, expand=True),
    "leaning": lambda image: image.rotate(5, fillcolor=(0, 0, 0)).crop((20, 20, 380, 280)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(4)),
    "framed": lambda image: ImageOps.expand(image, 30, (255, 255, 255)),
    "stretched": lambda image: image.resize((400, 220)),
    "mirrored crop": lambda image: ImageOps.mirror(image.crop((40, 40, 340, 290))),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_copy_agrees_from_either_side(edit: str, turned: bool) -> None:
    image = drawn(3)
    pair = reduced(image), reduced(EDITS[edit](image), quality=70)
    measured = compare(*(pair[::-1] if turned else pair))
    assert agrees(measured), measured
    assert measured.mirrored is ("mirrored" in edit)


def test_different_images_do_not_agree() -> None:
    images = [reduced(drawn(seed)) for seed in range(8)]
    pairs = [(a, b) for a in range(8) for b in range(a)]
    assert not any(agrees(compare(images[a], images[b])) for a, b in pairs)


def test_another_view_of_the_same_things_is_not_steady() -> None:
    """Near things move farther than far ones, as when the camera moves."""
    far, near = np.asarray(drawn(1)).copy(), np.asarray(drawn(2))
    first, second = far.copy(), np.roll(far, 6, axis=1)
    stripes = np.zeros((300, 400), bool)
    for left in range(0, 400, 80):
        stripes[:, left : left + 40] = True
    first[stripes] = near[stripes]
    second[stripes] = np.roll(near, 18, axis=1)[stripes]
    measured = compare(reduced(Image.fromarray(first)), reduced(Image.fromarray(second)))
    assert not agrees(measured)


def test_two_parts_of_one_scene_are_not_inside_each_other() -> None:
    image = drawn(5)
    left, right = image.crop((0, 0, 260, 300)), image.crop((140, 0, 400, 300))
    measured = compare(reduced(left), reduced(right))
    assert measured.agreement > 0.8
    assert measured.inside < 0.7


def test_other_colours_are_another_hue() -> None:
    image = drawn(4)
    swapped = Image.merge("RGB", image.split()[::-1])
    measured = compare(reduced(image), reduced(swapped))
    assert measured.hue > 30
    assert compare(reduced(image), reduced(EDITS["grey"](image))).hue == 0


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30)])
def test_blank_images_agree_with_nothing(colour: tuple[int, int, int]) -> None:
    blank = reduced(Image.new("RGB", (300, 200), colour))
    other = reduced(Image.new("RGB", (200, 300), colour))
    measured = compare(blank, other)
    assert measured.agreement == 0
    assert measured.flat == 1.0
    assert compare(blank, reduced(drawn(0))).agreement < 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 7), (16, 4), (2000, 1)])
def test_tiny_and_narrow_images_can_be_compared(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    tiny = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    assert compare(reduced(tiny), reduced(drawn(0))).agreement <= 1
    assert compare(reduced(drawn(0)), reduced(tiny)).agreement <= 1
    assert compare(reduced(tiny), reduced(tiny)).agreement <= 1


def test_bytes_that_are_not_an_image_are_not_reduced() -> None:
    assert reduce_image(b"not an image") is None
    assert reduce_image(b"") is None


def test_the_same_comparison_gives_the_same_bits() -> None:
    pair = reduced(drawn(3)), reduced(EDITS["cropped"](drawn(3)))
    assert compare(*pair) == compare(*(ReducedImage(p.pixels) for p in pair))
