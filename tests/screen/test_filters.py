"""Filters against values computed by hand, and the hash against what it must see and not see."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from curation.screen.filter import Pair
from curation.screen.filters import FILTERS
from curation.screen.stage import decode_grey, load_filter, perceptual_hash


def pair(grey=None, width=300, height=100, size=5000, caption="a dog") -> Pair:
    grey = np.zeros((10, 30), np.uint8) if grey is None else np.asarray(grey, np.uint8)
    return Pair(width, height, size, caption, grey)


def score(name: str, given: Pair) -> float:
    return load_filter(name).score(given)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_documented_and_scores(name):
    found = load_filter(name)
    assert found.doc
    assert found.unit
    assert found.usual
    assert score(name, pair()) is not None


def test_values_by_hand():
    assert score("min_side", pair()) == 100
    assert score("aspect", pair()) == 3
    assert score("aspect", pair(width=100, height=300)) == 3
    assert score("file_size", pair()) == 5000
    assert score("caption_length", pair(caption="  a dog ")) == 5
    assert score("caption_length", pair(caption=None)) == 0
    assert score("entropy", pair()) == 0
    halves = np.repeat([[0, 255]], 8, axis=0)
    assert score("entropy", pair(halves)) == 1
    every = np.arange(256).reshape(16, 16)
    assert score("entropy", pair(every)) == pytest.approx(8)
    assert score("contrast", pair(halves)) == 127.5


def picture(seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    return Image.fromarray(coarse).resize((200, 150), Image.Resampling.BICUBIC)


def hashed(image: Image.Image, quality: int = 95) -> bytes | None:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    grey = decode_grey(stream.getvalue())
    assert grey is not None
    return perceptual_hash(grey)


def distance(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_count()


def test_hash_sees_through_encoding_and_scale_but_not_through_pictures():
    first = hashed(picture())
    assert first is not None
    assert len(first) == 32
    assert distance(first, hashed(picture(), quality=40)) <= 31
    assert distance(first, hashed(picture().resize((120, 90)))) <= 31
    assert distance(first, hashed(picture(1))) > 80


def test_flat_pictures_have_no_hash():
    assert hashed(Image.new("L", (100, 100), 90)) is None
    assert decode_grey(b"not a picture") is None
