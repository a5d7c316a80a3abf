"""Faces of the list or of a detector are not recognisable in stored images."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError
from skimage import data

from curation.errors import RecipeError
from curation.recipe import parse_recipe
from curation.runner.preflight import check_inputs
from curation.stages.fetch.faces import find_faces, with_checksum
from curation.stages.fetch.params import FaceParams
from tests.fetch.conftest import Web, answer
from tests.fetch.helpers import encoded, images, shown
from tests.ingest.helpers import source, write

SIDE = 240
BOX = (0.25, 0.5, 0.5, 0.75)


def noise(width: int = SIDE, height: int = SIDE) -> Image.Image:
    """Fine detail everywhere, so that a blur shows."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


def detail(row: dict[str, Any], box: tuple[float, float, float, float]) -> float:
    """How much neighbouring pixels differ within a box."""
    pixels = shown(row)
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = (round(v * s) for v, s in zip(box, (width, height) * 2, strict=True))
    return float(np.abs(np.diff(pixels[y0:y1, x0:x1], axis=0)).mean())


def stored(web: Web, tmp_path: Path, content: bytes, boxes: Any, **fetch: Any) -> dict[str, Any]:
    web.pages["/"] = answer(content)
    path = write(tmp_path / "l.parquet", [{"url": web.url("/"), "f": json.dumps(boxes)}])
    spec = source(path, columns={"url": "url", "faces": "f"})
    (row,) = images(tmp_path / "store", spec, **fetch)
    return row


# 120 pixels: resized; 512: only blurred, so that only the blur changes the file.
@pytest.mark.parametrize("size", [120, 512])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_listed_faces_are_blurred_and_nothing_else(
    web: Web, tmp_path: Path, size: int, kind: str
) -> None:
    row = stored(web, tmp_path, encoded(noise(), kind), [BOX], resize={"size": size})
    assert (row["status"], row["faces_blurred"]) == ("ok", 1)
    elsewhere = detail(row, (0.6, 0.0, 1.0, 1.0))
    assert detail(row, BOX) < 0.1 * elsewhere
    plain = stored(web, tmp_path / "p", encoded(noise(), kind), [], resize={"size": size})
    assert plain["faces_blurred"] == 0
    assert detail(row, (0.6, 0.0, 1.0, 1.0)) == pytest.approx(elsewhere)
    assert detail(plain, BOX) > 0.8 * elsewhere


@pytest.mark.parametrize("turn", range(1, 9))
def test_boxes_of_a_rotated_file_are_blurred_as_stored_and_as_displayed(
    web: Web, tmp_path: Path, turn: int
) -> None:
    file = noise(240, 160)
    exif = Image.Exif()
    exif[0x0112] = turn
    row = stored(web, tmp_path, encoded(file, exif=exif, quality=95), [BOX])
    assert row["faces_blurred"] == (1 if turn == 1 else 2)
    assert detail(row, BOX) < 3
    # Where the box is once the file is rotated: found by rotating a mask in the same way.
    mask = Image.new("L", file.size)
    left, top, right, bottom = (round(v * s) for v, s in zip(BOX, file.size * 2, strict=True))
    mask.paste(255, (left, top, right, bottom))
    file_of_mask = Image.open(io.BytesIO(encoded(mask, exif=exif)))
    seen = np.asarray(ImageOps.exif_transpose(file_of_mask)) > 128
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    height, width = seen.shape
    box = (columns[0] / width, rows[0] / height, columns[-1] / width, rows[-1] / height)
    assert detail(row, box) < 3


def test_listed_boxes_are_not_blurred_if_the_recipe_says_so(web: Web, tmp_path: Path) -> None:
    content = encoded(noise())
    row = stored(web, tmp_path, content, [BOX], faces={"listed": False})
    assert row["image"] == content


def test_a_detector_finds_a_face(web: Web, tmp_path: Path) -> None:
    photographs: Any = data  # skimage has no annotations
    astronaut = Image.fromarray(photographs.astronaut())
    plain = stored(web, tmp_path / "a", encoded(astronaut), [])
    row = stored(web, tmp_path / "b", encoded(astronaut), [], faces={"detector": "haar"})
    assert plain["faces_blurred"] == 0
    assert row["faces_blurred"] >= 1
    face = (0.36, 0.13, 0.54, 0.38)
    assert detail(row, face) < 0.5 * detail(plain, face)
    flag = (0.0, 0.0, 0.3, 0.6)
    assert detail(row, flag) > 0.9 * detail(plain, flag)


def test_a_file_that_is_no_network_raises_an_error(web: Web, tmp_path: Path) -> None:
    weights = tmp_path / "yunet.onnx"
    weights.write_bytes(b"no network")
    with pytest.raises(RecipeError, match=r"fetch\.faces\.weights"):
        faces = {"detector": "yunet", "weights": str(weights)}
        stored(web, tmp_path, encoded(noise()), [], faces=faces)


def test_weights_that_change_after_the_plan_are_not_loaded(tmp_path: Path) -> None:
    weights = tmp_path / "yunet.onnx"
    weights.write_bytes(b"the network of the plan")
    params = FaceParams(detector="yunet", weights=str(weights))
    planned = with_checksum(params)
    assert planned.sha256 == hashlib.sha256(b"the network of the plan").hexdigest()
    with pytest.raises(RecipeError, match="cannot read the file as a YuNet network"):
        find_faces(np.asarray(noise()), planned)
    weights.write_bytes(b"another network, put there")
    with pytest.raises(RecipeError, match="expected sha256"):
        find_faces(np.asarray(noise()), planned)
    with pytest.raises(RecipeError, match="expected sha256"):
        with_checksum(planned)
    weights.unlink()
    with pytest.raises(RecipeError, match="no file"):
        find_faces(np.asarray(noise()), planned)


def test_a_run_checks_the_checksum_of_the_network_before_any_work(tmp_path: Path) -> None:
    weights = tmp_path / "yunet.onnx"
    weights.write_bytes(b"a network")
    faces = {"detector": "yunet", "weights": str(weights), "sha256": "0" * 64}
    spec = source(write(tmp_path / "l.parquet", [{"url": "http://a.example/", "caption": "c"}]))
    with pytest.raises(RecipeError, match=r"fetch\.faces.*expected sha256 0000"):
        check_inputs(parse_recipe({"name": "t", "sources": [spec], "fetch": {"faces": faces}}))
    with pytest.raises(ValidationError, match="there are none"):
        FaceParams(detector="haar", sha256="0" * 64)


def test_a_detector_without_its_network_raises_an_error(tmp_path: Path, web: Web) -> None:
    with pytest.raises(RecipeError, match="weights"):
        stored(web, tmp_path, encoded(noise()), [], faces={"detector": "yunet"})
