"""Damaged JPEGs have a reason, and sound ones are read whatever else is in the file."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curation.media.pictures.upright import make_upright
from tests.pictures.files import (
    ADOBE_RGB,
    GREY,
    PICTURE,
    RGB,
    difference,
    encode,
    encoded_exif,
    reason,
    segment,
    with_segments,
)

EOI = b"\xff\xd9"
LOSS = 4
"""Largest mean difference of a sound JPEG, of 255; other damage and other colours give more than 10."""
WHOLE = encode(PICTURE)
PROGRESSIVE = encode(PICTURE, progressive=True)
KINDS = {
    "baseline": WHOLE,
    "progressive": PROGRESSIVE,
    "444": encode(PICTURE, subsampling=0),
    "grey": encode(PICTURE.convert("L")),
    "cmyk": encode(PICTURE.convert("CMYK")),
    "restart": encode(PICTURE, restart_marker_blocks=5),
    "rgb": encode(PICTURE, keep_rgb=True),
    "optimised": encode(PICTURE, optimize=True),
}


def scan_start(content: bytes) -> int:
    at = content.index(b"\xff\xda")
    return at + 2 + int.from_bytes(content[at + 2 : at + 4])


def scans(content: bytes) -> list[int]:
    starts = [content.find(b"\xff\xda")]
    while (at := content.find(b"\xff\xda", starts[-1] + 2)) > 0:
        starts.append(at)
    return starts


@pytest.mark.parametrize("kind", KINDS)
def test_sound_files_are_read(kind: str) -> None:
    expected = GREY if kind == "grey" else RGB
    assert difference(KINDS[kind], expected) < LOSS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"", EOI], ids=["cut", "closed"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.9])
def test_a_file_without_a_part_of_its_scans_is_truncated(
    kind: str, end: bytes, part: float
) -> None:
    content = KINDS[kind]
    start = scan_start(content)
    assert reason(content[: start + int(part * (len(content) - start))] + end) == "truncated"


@given(st.sampled_from(sorted(KINDS)), st.floats(0, 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_cut_file_has_pixels(kind: str, part: float, closed: bool) -> None:
    content = KINDS[kind]
    cut = int(part * (len(content) - 40))
    assert reason(content[:cut] + EOI * closed) in (
        "truncated",
        "undecodable",
        "not_an_image",
        "empty",
    )


@pytest.mark.parametrize("kind", ["baseline", "progressive", "grey", "restart"])
def test_a_download_that_was_continued_by_the_whole_file_has_no_pixels(kind: str) -> None:
    content = KINDS[kind]
    half = scan_start(content) + (len(content) - scan_start(content)) // 2
    assert reason(content[:half] + content) in ("truncated", "undecodable")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["middle", "end", "end and closed"])
def test_blocks_of_zeros_have_no_pixels(kind: str, place: str) -> None:
    content = KINDS[kind]
    start, size = scan_start(content), len(content) - scan_start(content)
    zeros = b"\0" * (size // 3)
    if place == "middle":
        at = start + size // 3
        damaged = content[:at] + zeros + content[at + len(zeros) :]
    else:
        damaged = content[: len(content) - len(zeros)] + zeros + EOI * ("closed" in place)
    assert reason(damaged) in ("truncated", "undecodable")


def test_a_progressive_file_without_its_last_scans_is_truncated() -> None:
    for start in scans(PROGRESSIVE)[1:]:
        assert reason(PROGRESSIVE[:start] + EOI) == "truncated"


def test_a_file_without_the_scans_of_its_colours_is_truncated() -> None:
    # A sequential JPEG with one scan for each component.
    content = separate_scans()
    assert difference(content, np.full((16, 16, 3), 128)) < 1
    for start in scans(content)[1:]:
        assert reason(content[:start] + EOI) == "truncated"


def separate_scans() -> bytes:
    """A mid-grey JPEG of three scans: every block is a difference of zero and an end of block."""
    head = encode(Image.new("RGB", (16, 16), (128, 128, 128)), subsampling=0)
    at = head.index(b"\xff\xda")
    bits = {0: "00" + "1010", 1: "00" + "00"}
    parts = []
    for component, table in ((1, 0), (2, 1), (3, 1)):
        text = bits[table] * 4
        text += "1" * (-len(text) % 8)
        data = int(text, 2).to_bytes(len(text) // 8)
        header = bytes((1, component, table * 0x11, 0, 63, 0))
        parts.append(segment(0xDA, header) + data)
    return head[:at] + b"".join(parts) + EOI


SOUND: dict[str, Callable[[], bytes]] = {
    "bytes after the end": lambda: WHOLE + b"\0" * 1000,
    "text after the end": lambda: WHOLE + b"<html>" * 50,
    "a second file after the end": lambda: WHOLE + encode(PICTURE.rotate(180)),
    "half a file after the end": lambda: WHOLE + WHOLE[: len(WHOLE) // 2],
    "no end": lambda: WHOLE[:-2],
    "half an end": lambda: WHOLE[:-1],
    "the last scan twice": lambda: PROGRESSIVE[:-2] + PROGRESSIVE[scans(PROGRESSIVE)[-1] :],
    "fill bytes": lambda: with_segments(WHOLE, b"\xff" * 7),
    "bytes between segments": lambda: WHOLE[:20] + b"\x01\x02\x03" + WHOLE[20:],
    "zeros between segments": lambda: WHOLE[:20] + b"\0" * 30 + WHOLE[20:],
    "zeros before the end": lambda: WHOLE[:-2] + b"\0" * 700 + EOI,
    "ones before the end": lambda: WHOLE[:-2] + b"\xff" * 700 + EOI,
    "a few bytes before the end": lambda: WHOLE[:-2] + b"\x12\x34" + EOI,
    "JFIF 2": lambda: WHOLE.replace(b"JFIF\0\1", b"JFIF\0\2", 1),
    "wrong parameters of the scan": lambda: WHOLE.replace(b"\0\x3f\0", b"\0\0\0", 1),
    "unknown transform of Adobe": lambda: with_segments(
        WHOLE, segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07")
    ),
    "broken EXIF": lambda: with_segments(
        WHOLE, segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x99" * 12)
    ),
    "EXIF of four bytes": lambda: with_segments(WHOLE, segment(0xE1, b"Exif\0\0abcd")),
    "comments of a megabyte": lambda: with_segments(WHOLE, *[segment(0xFE, b"c" * 65_533)] * 16),
    "XMP twice": lambda: with_segments(
        WHOLE, *[segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")] * 2
    ),
    "a profile that is no profile": lambda: with_segments(
        WHOLE, segment(0xE2, b"ICC_PROFILE\0\1\1" + b"junk" * 99)
    ),
    "a profile with a part missing": lambda: with_segments(
        WHOLE, segment(0xE2, b"ICC_PROFILE\0\1\3" + ADOBE_RGB)
    ),
    "a profile with part number 0": lambda: with_segments(
        WHOLE, segment(0xE2, b"ICC_PROFILE\0\0\0" + b"x" * 50)
    ),
    "broken pages of several images": lambda: with_segments(
        WHOLE, segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + b"\x99" * 30)
    ),
    "broken data of Photoshop": lambda: with_segments(
        WHOLE, segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff")
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_else_is_in_a_file_does_not_matter(name: str) -> None:
    assert difference(SOUND[name](), RGB) < LOSS


def test_the_first_image_of_several_counts_alone() -> None:
    several = encode(PICTURE, "MPO", save_all=True, append_images=[PICTURE.rotate(180)], quality=95)
    assert difference(several, RGB) < LOSS
    assert difference(several[: len(several) * 6 // 10], RGB) < LOSS
    assert reason(several[: len(several) // 4]) == "truncated"


def test_a_file_keeps_its_bytes_only_if_all_readers_show_the_same() -> None:
    def kept(content: bytes) -> bytes | None:
        return make_upright(content, 10**8).original

    for content in (WHOLE, KINDS["grey"], KINDS["rgb"], PROGRESSIVE):
        assert kept(content) == content
    exif = segment(0xE1, encoded_exif(1))
    assert kept(with_segments(WHOLE, exif)) == WHOLE
    assert kept(with_segments(WHOLE, exif, segment(0xE1, encoded_exif(6)))) == WHOLE
    anew = (encode(PICTURE, icc_profile=ADOBE_RGB), KINDS["cmyk"], WHOLE[:-2], SOUND["JFIF 2"]())
    assert [kept(content) for content in anew] == [None] * len(anew)


def test_orientation_is_that_of_the_first_exif_block_and_not_of_xmp() -> None:
    xmp = (
        b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    assert difference(with_segments(WHOLE, segment(0xE1, xmp)), RGB) < LOSS
    turned = encode(PICTURE.transpose(Image.Transpose.ROTATE_90))
    six, three = (segment(0xE1, encoded_exif(number)) for number in (6, 3))
    assert difference(with_segments(turned, segment(0xE1, xmp), six), RGB) < LOSS
    assert difference(with_segments(turned, six, three), RGB) < LOSS
    assert difference(with_segments(WHOLE, segment(0xE1, encoded_exif(0))), RGB) < LOSS


SHORT, LONG, BYTE = 3, 4, 1
CODES = {SHORT: "H", LONG: "I", BYTE: "B"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "numbers", "is_turned"),
    [(SHORT, 1, True), (LONG, 1, False), (BYTE, 1, False), (SHORT, 2, False), (SHORT, 0, False)],
)
def test_orientation_counts_as_the_standard_writes_it(
    order: str, kind: int, numbers: int, is_turned: bool
) -> None:
    """Chromium 156 turns no picture by another type, or by several numbers."""
    value = struct.pack(f"{order}{CODES[kind]}", 6).ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    entries = struct.pack(f"{order}HHHI", 2, 0x0100, SHORT, 1) + bytes(4)
    entries += struct.pack(f"{order}HHI", 0x0112, kind, numbers) + value + bytes(4)
    stored = PICTURE.transpose(Image.Transpose.ROTATE_90) if is_turned else PICTURE
    content = with_segments(encode(stored), segment(0xE1, b"Exif\0\0" + head + entries))
    assert difference(content, RGB) < LOSS


@pytest.mark.parametrize("transform", [0, 1])
def test_the_transform_of_adobe_says_whether_colours_are_rgb(transform: int) -> None:
    content = (
        KINDS["rgb"]
        if transform == 0
        else with_segments(WHOLE, segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"))
    )
    assert difference(content, RGB) < LOSS


def test_cmyk_is_inverted_with_and_without_the_marker_of_adobe() -> None:
    content = KINDS["cmyk"]
    at = content.index(b"\xff\xee")
    size = struct.unpack_from(">H", content, at + 2)[0]
    assert difference(content[:at] + content[at + 2 + size :], RGB) < LOSS
