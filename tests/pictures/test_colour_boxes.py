"""Colours that boxes of AVIF, HEIC and JPEG 2000 name are shown as browsers show them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.pictures.colour_boxes import profile_in_boxes
from curation.media.pictures.matrix_profile import P3, SRGB_CURVE, matrix_profile
from curation.media.pictures.plug_ins import PLUG_INS
from curation.media.pictures.upright import make_upright
from tests.pictures.files import ADOBE_RGB, PICTURE, RGB, Ints, encode
from tests.pictures.test_colours import ADOBE_SHOWN, P3_SHOWN, expected

BT2020_SHOWN = expected(RGB, "bt2020", None)
P3_PROFILE = matrix_profile(P3, SRGB_CURVE)


def coded(content: bytes, primaries: int, curve: int) -> bytes:
    """A file whose only box of codes has others."""
    assert content.count(b"nclx") == 1
    at = content.find(b"nclx") + 4
    return content[:at] + struct.pack(">HH", primaries, curve) + content[at + 4 :]


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", len(content) + 8) + kind + content


def shown(content: bytes, kind: str) -> Ints:
    formats = [kind] if kind in PLUG_INS else []
    return make_upright(content, 10**8, formats).rgb.astype(np.int64)


@pytest.mark.parametrize("kind", ["avif", "heic"])
@pytest.mark.parametrize(
    ("primaries", "curve", "colours"),
    [
        (1, 13, RGB),
        (2, 2, RGB),
        (12, 13, P3_SHOWN),
        (9, 14, BT2020_SHOWN),
        (12, 2, P3_SHOWN),
        (12, 17, RGB),
    ],
    ids=["sRGB", "not said", "P3", "BT.2020", "no curve", "a curve of film"],
)
def test_codes_of_colours_are_applied(kind: str, primaries: int, curve: int, colours: Ints) -> None:
    name, options = "AVIF", {"quality": 95, "subsampling": "4:4:4"}
    if kind == "heic":
        pytest.importorskip(PLUG_INS[kind].module).register_heif_opener()
        name, options = "HEIF", {"quality": 95, "chroma": 444}
    picture = coded(encode(PICTURE, name, **options), primaries, curve)
    assert np.abs(shown(picture, kind) - colours).mean() < 4
    others = [c for c in (RGB, P3_SHOWN, BT2020_SHOWN) if c is not colours]
    assert all(np.abs(shown(picture, kind) - other).mean() > 5 for other in others)


def test_a_profile_goes_before_codes() -> None:
    content = encode(PICTURE, "AVIF", quality=95, subsampling="4:4:4", icc_profile=ADOBE_RGB)
    assert np.abs(shown(content, "avif") - ADOBE_SHOWN).mean() < 4


def test_the_profile_of_a_jpeg_2000_is_applied() -> None:
    content = encode(PICTURE, "JPEG2000")
    start, head = content.find(b"colr") - 4, content.find(b"jp2h") - 4
    (size,), (length,) = (
        struct.unpack_from(">I", content, start),
        struct.unpack_from(">I", content, head),
    )
    inner = content[head + 8 : start] + box(b"colr", b"\2\0\0", ADOBE_RGB)
    inner += content[start + size : head + length]
    profiled = content[:head] + box(b"jp2h", inner) + content[head + length :]
    assert np.abs(shown(profiled, "jpeg2000") - ADOBE_SHOWN).mean() < 1
    assert np.abs(shown(content, "jpeg2000") - RGB).mean() < 1


def of_items(primary: int, wide: bool, version: int) -> bytes:
    """A file of two items: the second one is a gain map, say, with other colours."""
    properties = [
        box(b"ispe", bytes(12)),
        box(b"colr", b"nclx", struct.pack(">HHHB", 12, 13, 6, 128)),
        box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, 6, 128)),
    ]
    number, place = (">I" if version else ">H"), (">H" if wide else ">B")
    essential = 0x8000 if wide else 0x80
    entries = b"".join(
        struct.pack(number, item)
        + b"\2"
        + struct.pack(place, 1)
        + struct.pack(place, essential | at)
        for item, at in ((1, 2), (2, 3))
    )
    ipma = bytes((version, 0, 0, wide)) + struct.pack(">I", 2) + entries
    pitm = bytes((version, 0, 0, 0)) + struct.pack(number, primary)
    meta = [box(b"pitm", pitm), box(b"iprp", box(b"ipco", *properties), box(b"ipma", ipma))]
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4), *meta) + box(b"mdat", b"x")


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("version", [0, 1])
def test_the_colours_are_those_of_the_item_that_is_shown(wide: bool, version: int) -> None:
    assert profile_in_boxes(of_items(1, wide, version), "avif") == P3_PROFILE
    assert profile_in_boxes(of_items(2, wide, version), "avif") is None
    assert profile_in_boxes(of_items(3, wide, version), "avif") is None


@given(
    st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), max_size=4),
    st.integers(0, 400),
)
def test_broken_boxes_name_nothing_or_a_profile(changes: list[tuple[int, bytes]], end: int) -> None:
    for content, kind in (
        (of_items(1, True, 1), "heic"),
        (encode(PICTURE, "JPEG2000"), "jpeg2000"),
    ):
        for at, change in changes:
            content = content[:at] + change + content[at + len(change) :]
        for file in (content, content[:end]):
            profile = profile_in_boxes(file, kind)
            assert profile is None or isinstance(profile, bytes)
