"""Equal pixels have one id, however they were written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ingest.helpers import run, source, table

RNG = np.random.default_rng(3)
PICTURE = Image.fromarray(
    np.kron(RNG.integers(0, 256, (7, 9, 3)), np.ones((8, 8, 1))).astype(np.uint8)
)
OTHER = PICTURE.copy()
OTHER.putpixel((3, 3), (255, 0, 255))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def ids(tmp_path: Path, files: dict[str, bytes]) -> dict[str, str]:
    (tmp_path / "l").mkdir()
    for name, content in files.items():
        (tmp_path / "l" / name).write_bytes(content)
    run(tmp_path / "store", source(tmp_path / "l", format="folder"), until="screen")
    names = table(tmp_path / "store", "images").read(["source_key"]).column(0).to_pylist()
    pixels = table(tmp_path / "store", "scores").read(["pixel_id"]).column(0).to_pylist()
    return dict(zip(names, pixels, strict=True))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpegs_of_the_same_pixels_have_one_id(tmp_path: Path, mode: str, subsampling: int) -> None:
    picture = PICTURE.convert(mode)
    options: dict[str, Any] = {"quality": 90, "subsampling": subsampling}
    files = {
        "baseline.jpg": encoded(picture, **options),
        "progressive.jpg": encoded(picture, progressive=True, **options),
        "optimised.jpg": encoded(picture, optimize=True, **options),
        "restarts.jpg": encoded(picture, restart_marker_blocks=1, **options),
        "described.jpg": encoded(picture, comment=b"a comment", **options),
    }
    read = ids(tmp_path, files | {"other.jpg": encoded(OTHER.convert(mode), **options)})
    other = read.pop("other.jpg")
    assert len(set(read.values())) == 1 and len(read) == len(files)
    assert other not in read.values()


def test_other_files_of_the_same_pixels_have_one_id(tmp_path: Path) -> None:
    palette = PICTURE.quantize(64)
    picture = palette.convert("RGB")
    files = {
        "a.png": encoded(picture, "PNG"),
        "b.png": encoded(palette, "PNG"),
        "c.bmp": encoded(picture, "BMP"),
        "d.webp": encoded(picture, "WEBP", lossless=True),
        "e.gif": encoded(palette, "GIF"),
        "f.tif": encoded(picture, "TIFF", compression="tiff_lzw"),
        "g.png": encoded(picture.convert("RGBA"), "PNG"),
    }
    assert len(set(ids(tmp_path, files).values())) == 1


def test_the_id_depends_on_the_shape(tmp_path: Path) -> None:
    flat = {
        name: Image.new("RGB", size, "red") for name, size in {"a": (40, 30), "b": (30, 40)}.items()
    }
    files = {f"{name}.png": encoded(picture, "PNG") for name, picture in flat.items()}
    assert len(set(ids(tmp_path, files).values())) == 2
