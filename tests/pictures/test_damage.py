"""Damage of files of all formats: the pixels of the whole file, or a reason, and no part left flat.

Formats without checksums cannot tell every changed bit. Whatever a decoder does notice counts.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curation.media.pictures.formats import pillow_formats
from curation.media.pictures.plug_ins import PLUG_INS
from curation.media.pictures.upright import make_upright
from curation.media.web.fetch_error import FetchError
from tests.pictures.files import PICTURE, encode
from tests.pictures.test_formats import BLACK_WHITE, CUT, PALETTE, SHOWN

REASONS = {"truncated", "undecodable", "not_an_image", "empty", "too_many_pixels"}
TURNED = PICTURE.rotate(180)
TIFFS = {f"{name} tiff": name for name in ("packbits", "tiff_lzw", "lzma", "zstd")}
FILES = {
    **{name: content for name, (content, _, _) in SHOWN.items()},
    **CUT,
    **{name: encode(PICTURE, "TIFF", compression=kind) for name, kind in TIFFS.items()},
    "group3 tiff": encode(BLACK_WHITE, "TIFF", compression="group3"),
    "group4 tiff": encode(BLACK_WHITE, "TIFF", compression="group4"),
    "jpeg": encode(PICTURE),
    "progressive jpeg": encode(PICTURE, progressive=True),
    "png": encode(PICTURE, "PNG"),
    "png with a palette": encode(PALETTE, "PNG"),
    "jpeg 2000 of tiles": encode(PICTURE, "JPEG2000", tile_size=(64, 64)),
    "lossy jpeg 2000": encode(PICTURE, "JPEG2000", irreversible=True, quality_layers=[20]),
    "animated png": encode(PICTURE, "PNG", save_all=True, append_images=[TURNED]),
    "animated gif": encode(PALETTE, "GIF", save_all=True, append_images=[TURNED.quantize(200)]),
    "animated webp": encode(PICTURE, "WEBP", save_all=True, append_images=[TURNED]),
}
WITH_PLUG_INS: dict[str, tuple[str, dict[str, object]]] = {
    "heic": ("heic", {"quality": 90}),
    "jpeg xl": ("jxl", {"quality": 90}),
    "lossless jpeg xl": ("jxl", {"lossless": True}),
}
CHECKED = ("png", "png with a palette", "icon", "icon with alpha", "deflate tiff", "lzma tiff")
"""Their checksums cover all pixels."""
DENSE = (*CHECKED, "jpeg", "progressive jpeg", "jpeg tiff", "tiff of jpeg", "gif", "lzw tiff")
"""Their decoders notice a long run that they did not write."""
BLOCK = 8


@cache
def file_of(name: str) -> tuple[bytes, tuple[str, ...]]:
    """A file, and the plug-ins that its format needs; the test is skipped without them."""
    if name in FILES:
        return FILES[name], ()
    kind, options = WITH_PLUG_INS[name]
    pytest.importorskip(PLUG_INS[kind].module)
    pillow_formats((kind,))
    return encode(PICTURE, PLUG_INS[kind].name, **options), (kind,)


def outcome(content: bytes, more: tuple[str, ...] = ()) -> np.ndarray | str:
    """The pixels of a file, or why it has none."""
    try:
        return make_upright(content, 10**8, more).rgb
    except FetchError as error:
        assert error.reason in REASONS
        return error.reason


def flat_share(pixels: np.ndarray, sound: np.ndarray) -> float:
    """The share of blocks of one colour that had several."""
    height, width = (side // BLOCK * BLOCK for side in sound.shape[:2])

    def is_flat(values: np.ndarray) -> np.ndarray:
        blocks = values[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
        flat: np.ndarray = (np.ptp(blocks, axis=(1, 3)) == 0).all(axis=-1)
        return flat

    return float((is_flat(pixels) & ~is_flat(sound)).mean())


def zeros(content: bytes, start: int, size: int) -> bytes:
    return content[:start] + bytes(len(content[start : start + size])) + content[start + size :]


def without(content: bytes, start: int, size: int) -> bytes:
    return content[:start] + content[start + size :]


@pytest.mark.parametrize("name", [*FILES, *WITH_PLUG_INS])
@given(part=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_a_cut_file_has_all_its_pixels_or_a_reason(name: str, part: float) -> None:
    content, more = file_of(name)
    result = outcome(content[: int(part * len(content))], more)
    assert isinstance(result, str) or np.array_equal(result, outcome(content, more))


def data_of(content: bytes) -> tuple[int, int]:
    """Where a changed bit must be noticed: in TIFFs within the strip, else anywhere."""
    with Image.open(io.BytesIO(content)) as image:
        tags = getattr(image, "tag_v2", {})
    start = tags.get(273, (0,))[0]
    return start, start + tags.get(279, (len(content),))[0]


@pytest.mark.parametrize("name", CHECKED)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_no_changed_bit_of_pixels_with_a_checksum_passes(name: str, place: float, bit: int) -> None:
    content, _ = file_of(name)
    start, end = data_of(content)
    changed = bytearray(content)
    changed[start + int(place * (end - start))] ^= 1 << bit
    result = outcome(bytes(changed))
    assert isinstance(result, str) or np.array_equal(result, outcome(content))


@pytest.mark.parametrize("damage", [zeros, without])
@pytest.mark.parametrize("name", [*DENSE, "jpeg xl", "lossless jpeg xl"])
@given(place=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_no_part_is_left_flat(
    damage: Callable[[bytes, int, int], bytes], name: str, place: float
) -> None:
    content, more = file_of(name)
    result = outcome(damage(content, int(place * len(content)), len(content) // 4), more)
    sound = outcome(content, more)
    assert not isinstance(sound, str)
    assert isinstance(result, str) or flat_share(result, sound) < 0.02


@pytest.mark.parametrize("name", ["group4 tiff", "tiff of one bit"])
def test_errors_of_fax_decoders_count(name: str) -> None:
    """Nearly every changed bit is an error in the rest of its strip."""
    content, _ = file_of(name)
    start, end = data_of(content)
    rng, refused = random.Random(0), 0
    for _ in range(50):
        changed = bytearray(content)
        changed[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
        refused += isinstance(outcome(bytes(changed)), str)
    assert refused >= 40
