"""Copies agree however they were edited; look-alikes and pictures with nothing to compare do not."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from curation.stages.verify.compare import Agreement, compare
from curation.stages.verify.picture import Picture, reduced


def encoded(image, kind="JPEG", quality=90):
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality)
    return stream.getvalue()


def picture(image, **options):
    small = reduced(encoded(image, **options))
    assert small is not None
    return Picture.of(small)


def agrees(found: Agreement) -> bool:
    return (
        found.agreement >= 0.85
        and found.steady >= 0.75
        and found.inside >= 0.95
        and found.hue <= 12
    )


def drawn(seed):
    """A picture with shapes of many sizes and colours, as rich in detail as a photograph."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (400, 300))
    image = Image.fromarray(ground)
    pen = ImageDraw.Draw(image)
    for _ in range(120):
        x, y = rng.integers(0, 400), rng.integers(0, 300)
        a, b = rng.integers(4, 50, 2)
        pen.ellipse((x, y, x + a, y + b), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


EDITS = {
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
def test_a_copy_agrees_from_either_side(edit, turned):
    image = drawn(3)
    pair = picture(image), picture(EDITS[edit](image), quality=70)
    found = compare(*(pair[::-1] if turned else pair))
    assert agrees(found), found
    assert found.mirrored is ("mirrored" in edit)


def test_other_pictures_do_not_agree():
    pictures = [picture(drawn(seed)) for seed in range(8)]
    pairs = [(a, b) for a in range(8) for b in range(a)]
    assert not any(agrees(compare(pictures[a], pictures[b])) for a, b in pairs)


def test_another_view_of_the_same_things_is_not_steady():
    """What is near moves farther than what is far, as when the camera moves."""
    far, near = np.asarray(drawn(1)).copy(), np.asarray(drawn(2))
    first, second = far.copy(), np.roll(far, 6, axis=1)
    stripes = np.zeros((300, 400), bool)
    for left in range(0, 400, 80):
        stripes[:, left : left + 40] = True
    first[stripes] = near[stripes]
    second[stripes] = np.roll(near, 18, axis=1)[stripes]
    found = compare(picture(Image.fromarray(first)), picture(Image.fromarray(second)))
    assert not agrees(found)


def test_two_parts_of_one_scene_are_not_inside_each_other():
    image = drawn(5)
    left, right = image.crop((0, 0, 260, 300)), image.crop((140, 0, 400, 300))
    found = compare(picture(left), picture(right))
    assert found.agreement > 0.8
    assert found.inside < 0.7


def test_another_colour_is_another_picture():
    image = drawn(4)
    swapped = Image.merge("RGB", image.split()[::-1])
    found = compare(picture(image), picture(swapped))
    assert found.hue > 30
    assert compare(picture(image), picture(EDITS["grey"](image))).hue == 0


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30)])
def test_blank_pictures_agree_with_nothing(colour):
    blank = picture(Image.new("RGB", (300, 200), colour))
    other = picture(Image.new("RGB", (200, 300), colour))
    found = compare(blank, other)
    assert found.agreement == 0
    assert found.flat == 1.0
    assert compare(blank, picture(drawn(0))).agreement < 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 7), (16, 4), (2000, 1)])
def test_tiny_and_narrow_pictures_are_no_crash(size):
    rng = np.random.default_rng(0)
    tiny = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    assert compare(picture(tiny), picture(drawn(0))).agreement <= 1
    assert compare(picture(drawn(0)), picture(tiny)).agreement <= 1
    assert compare(picture(tiny), picture(tiny)).agreement <= 1


def test_what_is_no_picture_is_not_reduced():
    assert reduced(b"not a picture") is None
    assert reduced(b"") is None


def test_the_same_comparison_gives_the_same_bits():
    pair = picture(drawn(3)), picture(EDITS["cropped"](drawn(3)))
    assert compare(*pair) == compare(*(Picture(p.pixels) for p in pair))
