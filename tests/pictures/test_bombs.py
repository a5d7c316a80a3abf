"""Pictures that want more than they may have: each is cheap, or has a reason, and never ends a task.

The limits are those of real runs: the kernel gives the decoder no more memory, and ends it in time.
"""

from __future__ import annotations

import io
import json
import random
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from curation.media.pictures.decoder_worker import Limits
from curation.media.pictures.formats import FORMATS
from curation.media.pictures.pixels import Pixels
from curation.media.web.fetch_error import FetchError
from curation.stages.fetch.detectors import haar
from curation.stages.fetch.faces import MAX_BLURRED_AREA, MAX_BOXES, find_faces
from curation.stages.fetch.params import FaceParams, FetchParams
from curation.stages.fetch.picture import columns_of, header_of, store_picture
from tests.pictures.asking import ask_decoder
from tests.pictures.files import (
    PICTURE,
    chunk,
    encode,
    segment,
    textured,
    with_chunks,
    with_segments,
    with_sound_checksums,
)

REASONS = {None, "empty", "not_an_image", "unsupported_format", "too_many_pixels", "bad_dimensions"}
REASONS |= {"truncated", "undecodable", "decoder_memory", "decoder_timeout"}
SMALL = Limits(memory_bytes=2**26, processor_s=20, wall_s=60.0)
"""Limits that a modest picture exceeds, so that the test needs little memory."""
QUICK = Limits(processor_s=10)
"""Half of the time that a picture may take, by the clock of its process: the machine may be busy."""


def reason(
    content: bytes, listed: str | None = None, limits: Limits | None = None, **params: Any
) -> str | None:
    """Why a file has no stored image, or None."""
    header = header_of(FetchParams.model_validate(params)) | {"faces": listed}
    try:
        answer = ask_decoder(store_picture, header, content, limits)
    except FetchError as error:
        return error.reason
    of_row: str | None = columns_of(answer)["reason"]
    return of_row


def tiff(tags: list[tuple[int, int, int, bytes]], tail: bytes = b"") -> bytes:
    """A TIFF of 16 × 16 pixels with tags, and bytes after them."""
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + tail


def number(value: int) -> bytes:
    """A value of a tag."""
    return struct.pack("<I", value)


SIZE = [(256, 4, 1, number(16)), (257, 4, 1, number(16)), (258, 3, 1, number(8))]
GREY = [*SIZE, (262, 3, 1, number(1)), (277, 3, 1, number(1))]


def tiff_of_tags(count: int = 2000) -> bytes:
    """A TIFF whose tags all are the same mebibyte."""
    strips = [(259, 3, 1, number(1)), (273, 4, 1, number(8)), (278, 4, 1, number(16))]
    tags = [*GREY, *strips, (279, 4, 1, number(256))]
    at = 8 + 2 + 12 * (len(tags) + count) + 4
    more = [(40_000 + n, 7, 2**20, number(at)) for n in range(count)]
    return tiff([*tags, *more], bytes(2**20))


def tiff_of_one_tile(side: int) -> bytes:
    """A TIFF whose only tile is much larger than it."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(side)) for _ in range(side)) + packer.flush()
    tags = [*GREY, (259, 3, 1, number(8)), (322, 4, 1, number(side)), (323, 4, 1, number(side))]
    tags.append((325, 4, 1, number(len(packed))))
    at = 8 + 2 + 12 * (len(tags) + 1) + 4
    return tiff([*tags, (324, 4, 1, number(at))], packed)


def tiff_of_strips(count: int) -> bytes:
    """A TIFF that lists very many strips."""
    tags = [*GREY, (259, 3, 1, number(1)), (278, 4, 1, number(1))]
    at = 8 + 2 + 12 * (len(tags) + 2) + 4
    lists = [(273, 4, count, number(at)), (279, 4, count, number(at))]
    return tiff([*tags, *lists], bytes(4 * count))


def frames(kind: str, count: int) -> bytes:
    """An animation."""
    more = [PICTURE.rotate(n).quantize(256) for n in range(count)]
    return encode(PICTURE.quantize(256), kind, save_all=True, append_images=more)


def text(size: int) -> bytes:
    """A chunk of text that unpacks to a size."""
    return chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))


PNG = encode(PICTURE, "PNG")
CHEAP: dict[str, Callable[[], bytes]] = {
    "tags of a TIFF": tiff_of_tags,
    "a tile of a TIFF": lambda: tiff_of_one_tile(8_000),
    "strips of a TIFF": lambda: tiff_of_strips(50_000),
    "chunks of a PNG": lambda: with_chunks(PNG, chunk(b"teXt", b"") * 200_000),
    "text of a PNG": lambda: with_chunks(PNG, text(100_000_000), text(100_000_000)),
    "profile of a PNG": lambda: with_chunks(
        PNG, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    ),
    "EXIF of a PNG": lambda: with_chunks(PNG, chunk(b"eXIf", tiff_of_tags(500))),
    "comments of a GIF": lambda: encode(PICTURE, "GIF")[:-1] + b"!\xfe\1x\0" * 500_000 + b";",
    "frames of a GIF": lambda: frames("GIF", 15),
    "frames of a WebP": lambda: frames("WEBP", 8),
    "frames of a PNG": lambda: frames("PNG", 8),
    "segments of a JPEG": lambda: with_segments(encode(PICTURE), *[segment(0xFE, b"")] * 50_000),
    "padding of a JPEG": lambda: encode(PICTURE)[:2] + b"\xff" * 500_000 + encode(PICTURE)[2:],
    "tables of a JPEG": lambda: with_segments(
        encode(PICTURE), *[segment(0xDB, b"\0" + bytes([1] * 64))] * 50_000
    ),
    "restarts of a JPEG": lambda: encode(PICTURE, restart_marker_blocks=1),
}


@pytest.mark.parametrize("name", CHEAP)
def test_what_a_picture_holds_besides_its_pixels_is_cheap_or_a_reason(name: str) -> None:
    content, started = CHEAP[name](), time.monotonic()
    assert reason(content) in REASONS
    assert time.monotonic() - started < 20


def test_a_picture_that_needs_too_much_memory_is_a_reason() -> None:
    modes = {"PNG": "RGB", "TIFF": "CMYK", "GIF": "P", "JPEG": "CMYK"}
    for kind, mode in modes.items():
        content = encode(Image.new(mode, (6000, 4000)), kind)
        assert reason(content, limits=SMALL) == "decoder_memory", kind
        assert reason(encode(PICTURE.convert(mode), kind), limits=SMALL) is None, kind
    assert psutil.Process().memory_info().rss < 3 * 2**30


@pytest.mark.parametrize(
    ("side", "limits"), [(12_000, SMALL), pytest.param(46_000, None, marks=pytest.mark.nightly)]
)
def test_a_tile_larger_than_the_memory_is_a_reason(side: int, limits: Limits | None) -> None:
    """The picture has 16 × 16 pixels, and its only tile has more bytes than the decoder may take."""
    allowed = (limits or Limits()).memory_bytes
    assert side**2 > allowed
    assert reason(tiff_of_one_tile(side), limits=limits) in ("decoder_memory", "undecodable")


def test_headers_that_promise_more_than_there_is_cost_nothing() -> None:
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    claims = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    started = time.monotonic()
    assert reason(claims + chunk(b"IEND", b"")) in ("truncated", "undecodable")
    screen = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    assert reason(screen) == "too_many_pixels"
    assert time.monotonic() - started < 10


SHAPES = [(1_100_000, 2), (2, 1_100_000), (65_536, 16), (65_500, 1), (1, 65_500), (60_000, 40)]
RESIZES = [
    {"mode": "no"},
    {"mode": "keep_ratio", "size": 256},
    {"mode": "center_crop", "size": 256},
    {},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_wide_pictures_reach_no_detector_and_end_no_run(shape: tuple[int, int]) -> None:
    content = encode(Image.new("L", shape), "PNG")
    for resize in RESIZES:
        for faces in ({"detector": "haar"}, {}):
            expected = (None, "bad_dimensions") if max(shape) <= 65_500 else ("bad_dimensions",)
            assert reason(content, resize=resize, faces=faces) in expected, (resize, faces)


def test_a_detector_gets_a_small_image(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    def detect(image: Pixels, *_: Any) -> list[Any]:
        shapes.append(image.shape)
        return []

    monkeypatch.setattr(haar, "detect", detect)
    for height, width in ((640, 480), (641, 480), (3_000, 30_000)):
        find_faces(np.zeros((height, width), np.uint8), FaceParams(detector="haar"))
    assert shapes == [(640, 480, 3), (640, 479, 3), (64, 640, 3)]


def boxes(count: int, side: float) -> str:
    """Boxes of a side, as fractions, along a diagonal."""
    steps = [(1 - side) * n / max(1, count - 1) for n in range(count)]
    return json.dumps([[at, at, at + side, at + side] for at in steps])


@pytest.mark.parametrize(
    ("count", "side", "expected"),
    [
        (MAX_BOXES, 0.02, None),
        (MAX_BOXES + 1, 0.0, "too_many_boxes"),
        (100_000, 0.001, "too_many_boxes"),
        (int(MAX_BLURRED_AREA), 1.0, None),
        (int(MAX_BLURRED_AREA) + 1, 1.0, "too_many_boxes"),
        (200, 0.5, "too_many_boxes"),
    ],
)
def test_boxes_are_bounded_in_number_and_area(
    count: int, side: float, expected: str | None
) -> None:
    content = encode(textured(800, 600).resize((4000, 3000)))
    assert reason(content, boxes(count, side), QUICK, resize={"mode": "no"}) == expected


@pytest.mark.parametrize(
    "faces",
    [
        '{"a": 1}',
        "[[1, 2]]",
        '[["a", 0, 1, 1]]',
        "[" * 10_000,
        "[[NaN, 0, 1, 1]]",
        "[[0, 0, 1e999, 1]]",
    ],
)
def test_boxes_that_are_none_are_a_reason(faces: str) -> None:
    of_row = reason(encode(PICTURE), faces)
    assert of_row is None or of_row.startswith("error_") or of_row == "too_many_boxes"


def originals() -> list[tuple[str, bytes]]:
    """Small files of every format, and of every way in which it packs."""
    noise = Image.effect_noise((48, 40), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: list[tuple[str, dict[str, Any]]] = [
        *((kind, {"exif": exif}) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"subsampling": 2, "restart_marker_blocks": 2}),
        ("WEBP", {"lossless": True}),
        *(("TIFF", {"compression": f"tiff_{name}"}) for name in ("lzw", "jpeg", "adobe_deflate")),
        *((kind, {}) for kind in ("GIF", "BMP", "ICO", "PPM", "JPEG2000")),
    ]
    files = [(kind, encode(noise, kind, **options)) for kind, options in ways]
    modes = ("RGBA", "LA", "P", "1", "I;16")
    files += [("PNG", encode(noise.convert("L").convert(mode), "PNG")) for mode in modes]
    files += [("TIFF", encode(noise.convert(mode), "TIFF")) for mode in ("CMYK", "LAB", "1")]
    return [*files, ("JPEG", encode(noise.convert("CMYK"))), ("GIF", frames("GIF", 2))]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, and perhaps a part missing, repeated or added."""
    mutant = bytearray(content)
    for _ in range(rng.choice((1, 2, 4, 16))):
        place = rng.randrange(min(len(mutant), rng.choice((64, 400, len(mutant)))))
        mutant[place] = rng.choice((0, 255, rng.randrange(256)))
    if mutant.startswith(b"\x89PNG") and rng.random() < 0.5:
        # Otherwise its checksums alone would be looked at.
        mutant = bytearray(with_sound_checksums(bytes(mutant)))
    cut = sorted(rng.randrange(len(mutant)) for _ in range(2))
    how = rng.random()
    if how < 0.1:
        return bytes(mutant[: cut[1]])
    if how < 0.2:
        return bytes(mutant[: cut[0]] + mutant[cut[1] :])
    return bytes(mutant[: cut[1]] + mutant[cut[0] :]) if how < 0.3 else bytes(mutant)


def fuzz(seconds: float, seed: int) -> tuple[int, set[str | None]]:
    """Store mutated files for some time; return of how many, and their reasons."""
    rng, files, count, end = random.Random(seed), originals(), 0, time.monotonic() + seconds
    reasons: set[str | None] = set()
    while time.monotonic() < end:
        content = mutated(rng.choice(files)[1], rng)
        params = {"max_pixels": 10**7, "resize": {"mode": "no"}, "keep_metadata": ["camera"]}
        header = header_of(FetchParams.model_validate(params))
        answer = ask_decoder(store_picture, header, content)
        reasons.add(columns_of(answer)["reason"])
        if answer.content:
            with Image.open(io.BytesIO(answer.content)) as image:
                image.load()
                assert not image.getexif() and image.format == "JPEG"
        count += 1
    return count, reasons


def test_mutated_pictures_are_stored_or_have_a_reason() -> None:
    count, reasons = fuzz(3, seed=3)
    assert count > 100
    assert reasons <= REASONS | {f"format_{kind}" for kind in FORMATS.values()}


@pytest.mark.nightly
def test_many_mutated_pictures_are_stored_or_have_a_reason() -> None:
    count, reasons = fuzz(300, seed=random.randrange(2**32))
    assert count > 10_000
    named = {reason for reason in reasons if reason and reason.startswith("format_")}
    assert reasons - named <= REASONS
