"""Stored images are those of img2dataset's resizer, to the byte."""

from __future__ import annotations

import io
import os
from functools import partial
from typing import Any

import numpy as np
import pytest

from curation.media.pictures.upright import UprightImage, make_upright
from curation.stages.fetch.faces import blur_boxes
from curation.stages.fetch.params import FetchParams
from curation.stages.fetch.stored_image import most_bytes, store_image
from tests.pictures.files import encode, textured

SIZES = [(160, 120), (64, 64), (65, 63), (1000, 37), (37, 1000), (641, 479), (1, 300), (100, 64)]
FACE = (0.2, 0.3, 0.6, 0.7)


def _blur(img: Any, bbox_list: list[Any]) -> Any:
    """img2dataset calls this with these names of arguments."""
    return blur_boxes(img, bbox_list)


def resized(content: bytes, params: FetchParams, faces: list[Any]) -> tuple[bytes, int, int]:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    from img2dataset.resizer import Resizer

    resizer = Resizer(
        image_size=params.resize.size,
        resize_mode=params.resize.mode,
        resize_only_if_bigger=True,
        encode_quality=params.quality,
        encode_format="jpg",
        skip_reencode=not faces,
        blurrer=_blur if faces else None,
    )
    arguments = (faces,) if faces else ()
    stored, width, height, *_, error = resizer(io.BytesIO(content), *arguments)
    assert error is None
    return stored, width, height


@pytest.mark.parametrize("mode", ["no", "keep_ratio", "keep_ratio_largest", "center_crop"])
@pytest.mark.parametrize("kind", ["RGB", "L", "PNG"])
@pytest.mark.parametrize("faces", [[], [FACE]], ids=["", "face"])
def test_stored_images_are_those_of_img2dataset(mode: str, kind: str, faces: list[Any]) -> None:
    resize = {"mode": mode} if mode == "no" else {"mode": mode, "size": 64}
    params = FetchParams.model_validate({"resize": resize, "quality": 90})
    for width, height in SIZES:
        image = textured(width, height)
        save = (
            partial(encode, image, "PNG") if kind == "PNG" else partial(encode, image.convert(kind))
        )
        content = save()
        stored = store_image(make_upright(content, 10**8), faces, params)
        assert tuple(stored) == resized(content, params, faces), (width, height)


def test_an_image_too_large_for_a_jpeg_has_a_reason() -> None:
    from curation.media.web.fetch_error import FetchError

    params = FetchParams.model_validate({"resize": {"mode": "no"}})
    image = UprightImage(np.zeros((1, 70_000, 3), np.uint8), "png")
    with pytest.raises(FetchError, match="undecodable"):
        store_image(image, [], params)


@pytest.mark.parametrize("mode", ["no", "keep_ratio", "keep_ratio_largest", "center_crop"])
def test_no_stored_image_has_more_bytes_than_are_read_of_an_answer(mode: str) -> None:
    resize = {"mode": mode} if mode == "no" else {"mode": mode, "size": 512}
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1500, 3), np.uint8)
    params = FetchParams.model_validate(
        {"resize": resize, "quality": 100, "max_pixels": noise.shape[0] * noise.shape[1]}
    )
    stored = store_image(UprightImage(noise, "png"), [], params)
    assert 0 < len(stored.content) <= most_bytes(params)
