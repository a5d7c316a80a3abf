"""Animations in JPEG XL, of which the plug-in gives the last frame, have a reason."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from curation.media.pictures.jpegxl import is_animated
from curation.media.pictures.upright import make_upright
from curation.media.web.fetch_error import FetchError
from tests.pictures.files import encode, encoded_exif

pytest.importorskip("pillow_jxl")

# A red and a blue frame of 8 × 8 pixels, as libjxl writes them.
START = bytes.fromhex("ff0a41044d002026")
FRAMES = (
    bytes.fromhex("080401003c004b188b15805dd4ff00223053aa893f"),
    bytes.fromhex("080405003c004b188b15805dd4ff002203abaa893f"),
)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


ANIMATION = START + b"".join(FRAMES)
IN_BOXES = (
    b"\0\0\0\x0cJXL \r\n\x87\n"
    + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    + box(b"jxlp", bytes(4) + START + FRAMES[0])
    + box(b"jxlp", b"\x80\0\0\1" + FRAMES[1])
)


@pytest.mark.parametrize("content", [ANIMATION, IN_BOXES])
def test_an_animation_is_not_shown_by_its_last_frame(content: bytes) -> None:
    with pytest.raises(FetchError) as failed:
        make_upright(content, 10**6, ("jxl",))
    assert failed.value.reason == "unsupported_format"


@pytest.mark.parametrize("use_container", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(8, 8), (256, 64), (13, 7), (300, 200), (1, 600), (1025, 3)])
def test_a_still_picture_is_no_animation(
    size: tuple[int, int], mode: str, use_container: bool
) -> None:
    picture = Image.new(mode, size)
    options = {"effort": 1, "use_container": use_container, "exif": encoded_exif(6)}
    content = encode(picture, "JXL", **options)
    assert not is_animated(content)
    assert make_upright(content, 10**6, ("jxl",)).width == size[0]
