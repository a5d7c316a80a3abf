"""Stored pictures: what they look like, and the reasons of files that are none."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from tests.fetch.conftest import Web
from tests.fetch.helpers import encoded, fetched, images, picture, reason, served, shown
from tests.ingest.helpers import source

PLAIN = picture()
RGB = np.asarray(PLAIN, int)


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    """A file that shows PLAIN if its EXIF orientation is applied."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = PLAIN.transpose(undo[orientation]) if orientation in undo else PLAIN
    return encoded(stored, kind, exif=exif)


def sixteen_bits() -> bytes:
    grey = np.asarray(PLAIN.convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def on_white(alpha: np.ndarray) -> tuple[bytes, np.ndarray]:
    rgba = np.dstack([RGB, alpha]).astype(np.uint8)
    part = alpha[:, :, None] / 255
    return encoded(Image.fromarray(rgba), "PNG"), RGB * part + 255 * (1 - part)


ALPHA = np.tile(np.linspace(0, 255, RGB.shape[1]), (RGB.shape[0], 1)).round()
GREY = np.repeat(np.asarray(PLAIN.convert("L"), int)[:, :, None], 3, 2)
FRAMES = {"save_all": True, "append_images": [PLAIN.rotate(180)], "duration": 100}

CASES: dict[str, tuple[Callable[[], bytes], np.ndarray, str]] = {
    **{f"exif {i}": (partial(turned, i), RGB, "jpeg") for i in range(1, 9)},
    "exif 9": (lambda: turned(9), RGB, "jpeg"),
    "exif png": (lambda: turned(6, "PNG"), RGB, "png"),
    "exif webp": (lambda: turned(8, "WEBP"), RGB, "webp"),
    "exif tiff": (lambda: turned(6, "TIFF"), RGB, "tiff"),
    "progressive": (lambda: encoded(PLAIN, progressive=True), RGB, "jpeg"),
    "cmyk": (lambda: encoded(PLAIN.convert("CMYK")), RGB, "jpeg"),
    "grey": (lambda: encoded(PLAIN.convert("L")), GREY, "jpeg"),
    "png": (lambda: encoded(PLAIN, "PNG"), RGB, "png"),
    "16 bit": (sixteen_bits, GREY, "png"),
    "grey png": (lambda: encoded(PLAIN.convert("L"), "PNG"), GREY, "png"),
    "alpha": (lambda: on_white(ALPHA)[0], on_white(ALPHA)[1], "png"),
    "webp": (lambda: encoded(PLAIN, "WEBP", quality=95), RGB, "webp"),
    "palette": (lambda: encoded(PLAIN.quantize(256), "PNG"), RGB, "png"),
    "gif": (lambda: encoded(PLAIN.quantize(256), "GIF"), RGB, "gif"),
    "animated gif": (lambda: encoded(PLAIN.quantize(256), "GIF", **FRAMES), RGB, "gif"),
    "animated webp": (lambda: encoded(PLAIN, "WEBP", quality=95, **FRAMES), RGB, "webp"),
    "several jpegs": (lambda: encoded(PLAIN, "MPO", **FRAMES), RGB, "jpeg"),
    "bmp": (lambda: encoded(PLAIN, "BMP"), RGB, "bmp"),
    "tiff": (lambda: encoded(PLAIN, "TIFF", compression="tiff_lzw"), RGB, "tiff"),
    "cmyk tiff": (lambda: encoded(PLAIN.convert("CMYK"), "TIFF"), RGB, "tiff"),
}


def test_stored_images_look_like_the_originals(web: Web, tmp_path: Path) -> None:
    rows = fetched(tmp_path, [served(web, make()) for make, _, _ in CASES.values()])
    for name, row, (_, expected, kind) in zip(CASES, rows, CASES.values(), strict=True):
        assert (row["status"], row["format"]) == ("ok", kind), name
        assert (row["original_width"], row["original_height"]) == (60, 40), name
        assert (row["width"], row["height"]) == (60, 40), name
        assert np.abs(shown(row) - expected).mean() < 6, name


def test_an_image_that_needs_no_change_keeps_its_bytes(web: Web, tmp_path: Path) -> None:
    plain = encoded(picture(700, 300), quality=80)
    (kept,) = fetched(tmp_path / "a", [served(web, plain)], resize={"mode": "no"})
    assert kept["image"] == plain
    (small,) = fetched(tmp_path / "b", [served(web, plain)], resize={"size": 64})
    assert (small["width"], small["height"]) == (64, 27)
    assert (small["original_width"], small["original_height"]) == (700, 300)
    assert np.abs(shown(small) - np.asarray(picture(64, 27), int)).mean() < 6
    (crop,) = fetched(
        tmp_path / "c", [served(web, plain)], resize={"mode": "center_crop", "size": 64}
    )
    assert (crop["width"], crop["height"]) == (64, 64)


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *chunks, chunk(b"IEND", b"")])


def bomb() -> bytes:
    packer = zlib.compressobj(9)
    row = b"\0" * (30_000 // 8 + 1)
    packed = b"".join(packer.compress(row) for _ in range(30_000)) + packer.flush()
    return png(30_000, 30_000, chunk(b"IDAT", packed))


def flipped() -> bytes:
    content = bytearray(encoded(picture(200, 200), "PNG"))
    content[content.index(b"IDAT") + 40] ^= 0x10
    return bytes(content)


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 8_000_000, zip=True)
    return encoded(PLAIN, "PNG", pnginfo=info)


def thumbnail_then_cut() -> bytes:
    """A truncated JPEG whose EXIF block holds a complete small JPEG."""
    small, whole = encoded(picture(16, 16)), encoded(picture(300, 300))
    block = b"Exif\0\0" + small
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    return whole[:2] + segment + whole[2 : len(whole) // 2]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (bomb, "too_many_pixels"),
        (lambda: encoded(picture(1001, 1000)), "too_many_pixels"),
        (flipped, "undecodable"),
        (text_bomb, None),
        (thumbnail_then_cut, "truncated"),
        (lambda: encoded(PLAIN, "PNG")[:-300], "truncated"),
        (lambda: encoded(PLAIN, "GIF")[:-200], "truncated"),
        (lambda: b"GIF89a\x09\0\x09\0\x80\0\0\0\0\0\xff\xff\xff;", "undecodable"),
        (lambda: encoded(PLAIN, "TIFF")[:100], "undecodable"),
        (lambda: encoded(PLAIN, "WEBP")[:100], "undecodable"),
        (lambda: b"\xff\xd8\xff", "undecodable"),
        (lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF" + b"\xff" * 500, "undecodable"),
        (lambda: b"\0\0\0\x1cftypheic" + b"\0" * 100, "format_heic"),
        (lambda: encoded(PLAIN, "ICO"), None),
        (lambda: encoded(Image.new("F", (9, 9)), "TIFF"), "unsupported_format"),
        (lambda: encoded(PLAIN, "PPM"), None),
        (lambda: encoded(PLAIN, "PDF"), "format_pdf"),
        (lambda: b"%!PS-Adobe-3.0 EPSF-3.0", "format_eps"),
        (lambda: encoded(Image.new("RGB", (2000, 1))), "bad_dimensions"),
    ],
)
def test_invalid_files_have_reasons(
    web: Web, tmp_path: Path, make: Callable[[], bytes], expected: str | None
) -> None:
    assert reason(tmp_path, served(web, make()), max_pixels=1_000_000) == expected


def test_the_shared_bad_inputs(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "web_mini" / "bad_inputs.parquet"
    truth = pq.read_table(path).to_pylist()
    columns = {"image": "bytes", "caption": "note", "key": "filename"}
    rows = images(tmp_path / "store", source(path, columns=columns))
    assert [r["source_key"] for r in rows] == [t["filename"] for t in truth]
    for row, expected in zip(rows, truth, strict=True):
        ok = row["status"] == "ok"
        if expected["kind"] in ("tracking_pixel", "tiny", "extreme_aspect"):
            # Valid images; thresholds on side and aspect would drop them.
            sides = sorted((row["original_width"], row["original_height"]))
            assert ok and (sides[0] < 32 or sides[1] / sides[0] > 3), expected["filename"]
        elif expected["expect"] != "either":
            assert ok == (expected["expect"] == "accept"), (expected["filename"], row["reason"])
        if expected["ref_thumb8x8"] is not None:
            size = (expected["upright_w"], expected["upright_h"])
            assert (row["original_width"], row["original_height"]) == size
            small = Image.open(io.BytesIO(row["image"])).convert("RGB")
            small = small.resize((8, 8), Image.Resampling.BOX)
            difference = np.asarray(small, int).ravel() - np.array(expected["ref_thumb8x8"])
            assert np.abs(difference).max() <= 6, expected["filename"]


def forged(scans: int, side: int | None = None) -> bytes:
    """A progressive JPEG with more scans, whose header may give a larger size."""
    content = encoded(PLAIN, progressive=True)
    last = content.rindex(b"\xff\xda")
    end = content.rindex(b"\xff\xd9")
    content = content[:end] + content[last:end] * scans + content[end:]
    if side is not None:
        at = content.index(b"\xff\xc2") + 5
        content = content[:at] + struct.pack(">HH", side, side) + content[at + 4 :]
    return content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (forged(0), None),
        (forged(30), None),
        (forged(600), "undecodable"),
        (forged(30, 9000), "undecodable"),
    ],
)
def test_jpegs_that_decode_slowly_fail_quickly(
    web: Web, tmp_path: Path, content: bytes, expected: str | None
) -> None:
    started = time.monotonic()
    assert reason(tmp_path, served(web, content)) == expected
    assert time.monotonic() - started < 20
