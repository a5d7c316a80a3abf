"""PNGs are shown by the chunks that decide pixels; no other chunk matters, and damage has a reason."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tests.pictures.files import (
    ADOBE_RGB,
    GREY,
    HEIGHT,
    PICTURE,
    RGB,
    WIDTH,
    Ints,
    chunk,
    difference,
    encode,
    encoded_exif,
    png,
    reason,
    shown,
    with_chunks,
)

WHOLE = encode(PICTURE, "PNG")
INTERLACED = encode(PICTURE, "PNG", interlace=1)
LEVELS = np.asarray(PICTURE.convert("L")).astype(np.int64)
NOISE = np.random.default_rng(1).integers(0, 8, 1_800_000, dtype=np.uint8).tobytes()


def damaged(name: bytes, content: bytes) -> bytes:
    """A chunk with a wrong checksum."""
    sound = chunk(name, content)
    return sound[:-1] + bytes((sound[-1] ^ 1,))


def packed(text: bytes) -> bytes:
    return zlib.compress(text)


OTHER_CHUNKS: dict[str, Callable[[], bytes]] = {
    "profile of 1.8 MB that is no profile": lambda: chunk(b"iCCP", b"x\0\0" + packed(NOISE)),
    "profile that does not unpack": lambda: chunk(b"iCCP", b"x\0\0junk"),
    "profile of an unknown compression": lambda: chunk(b"iCCP", b"x\0\7junk"),
    "empty profile": lambda: chunk(b"iCCP", b""),
    "zTXt of 8 MB": lambda: chunk(b"zTXt", b"k\0\0" + packed(b"x" * 8_000_000)),
    "zTXt that does not unpack": lambda: chunk(b"zTXt", b"k\0\0junk"),
    "zTXt of an unknown compression": lambda: chunk(b"zTXt", b"k\0\7junk"),
    "iTXt of 2 MB": lambda: chunk(b"iTXt", b"k\0\1\0\0\0" + packed(b"<rdf/>" * 300_000)),
    "300 texts of 1 MB": lambda: chunk(b"zTXt", b"k\0\0" + packed(b"x" * 1_000_000)) * 300,
    "tEXt of 2 MB": lambda: chunk(b"tEXt", b"k\0" + b"x" * 2_000_000),
    "text with a wrong checksum": lambda: damaged(b"tEXt", b"k\0v"),
    "time with a wrong checksum": lambda: damaged(b"tIME", bytes(7)),
    "gamma with a wrong checksum": lambda: damaged(b"gAMA", struct.pack(">I", 100_000)),
    "gamma of two bytes": lambda: chunk(b"gAMA", b"\0\1"),
    "gamma of zero": lambda: chunk(b"gAMA", bytes(4)),
    "chromaticities of zero": lambda: chunk(b"cHRM", bytes(32)),
    "chromaticities on a line": lambda: chunk(b"cHRM", struct.pack(">8I", *[30_000] * 8)),
    "short physical size": lambda: chunk(b"pHYs", b"\0"),
    "private chunk": lambda: chunk(b"prVt", b"x" * 999),
    "broken EXIF": lambda: chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
    "short animation": lambda: chunk(b"acTL", b"\0"),
    "animation of no frames": lambda: chunk(b"acTL", bytes(8)),
    "frames in a wrong order": lambda: (
        chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 9, WIDTH, HEIGHT, 0, 0, 1, 1, 0, 0))
    ),
}


@pytest.mark.parametrize("name", OTHER_CHUNKS)
def test_chunks_that_decide_no_pixels_do_not_matter(name: str) -> None:
    assert difference(with_chunks(WHOLE, OTHER_CHUNKS[name]()), RGB) == 0


@pytest.mark.parametrize(
    "content",
    [
        WHOLE + b"\0" * 99,
        WHOLE + WHOLE,
        WHOLE[:-12],
        WHOLE[:-12] + damaged(b"IEND", b""),
        WHOLE[:-12] + chunk(b"tEXt", b"k\0" + b"v" * 99)[:-20],
        INTERLACED,
    ],
)
def test_what_follows_the_pixels_does_not_matter(content: bytes) -> None:
    assert difference(content, RGB) == 0


@pytest.mark.parametrize("whole", [WHOLE, INTERLACED], ids=["plain", "interlaced"])
@given(part=st.floats(0, 1), closed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_no_cut_file_has_pixels(whole: bytes, part: float, closed: bool) -> None:
    cut = whole[: int(part * (len(whole) - 13))] + chunk(b"IEND", b"") * closed
    assert reason(cut) in ("truncated", "undecodable", "not_an_image", "empty")


def test_pixels_that_end_in_damage_which_pillow_passes_over_are_truncated() -> None:
    header = struct.pack(">IIBBBBB", 9, 9, 16, 0, 0, 0, 0)
    packed = bytes.fromhex("789c6364606740034ce8028308000b4d001957")
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert reason(b"\x89PNG\r\n\x1a\n" + chunks) == "truncated"


def test_pixels_that_end_early_within_a_sound_chunk_are_truncated() -> None:
    at = WHOLE.index(b"IDAT")
    data = WHOLE[at + 4 : at + 4 + int.from_bytes(WHOLE[at - 4 : at])]
    unpacked = zlib.decompress(data)
    for half in (data[: len(data) // 2], zlib.compress(unpacked[: len(unpacked) // 2])):
        content = WHOLE[: at - 4] + chunk(b"IDAT", half) + chunk(b"IEND", b"")
        assert reason(content) == "truncated"


@given(st.integers(0, len(WHOLE) - 1))
@settings(max_examples=40, deadline=None)
def test_a_changed_byte_gives_a_reason_or_the_same_pixels(at: int) -> None:
    content = WHOLE[:at] + bytes((WHOLE[at] ^ 0x10,)) + WHOLE[at + 1 :]
    assert reason(content) is not None or difference(content, RGB) == 0


def on_white(colours: Ints, transparent: np.ndarray) -> Ints:
    return np.where(transparent[:, :, None], 255, colours)


def repeated(grey: Ints) -> Ints:
    return np.repeat(grey[:, :, None], 3, 2)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("transparent", [None, 0, 1, "last"])
def test_greys_of_all_depths(depth: int, transparent: int | str | None) -> None:
    top = 2**depth - 1
    values = LEVELS * 257 if depth == 16 else LEVELS * (top + 1) // 256
    expected = repeated(values >> 8 if depth == 16 else values * 255 // top)
    if transparent is None:
        assert difference(png(values, depth, 0), expected) == 0
        return
    level = top if transparent == "last" else int(transparent)
    values[:20] = level
    expected = repeated(values >> 8 if depth == 16 else values * 255 // top)
    content = png(values, depth, 0, chunk(b"tRNS", struct.pack(">H", level)))
    assert difference(content, on_white(expected, values == level)) == 0


@pytest.mark.parametrize("depth", [8, 16])
def test_one_transparent_colour(depth: int) -> None:
    values = RGB * 257 if depth == 16 else RGB.copy()
    colour = (65_535, 0, 1_000) if depth == 16 else (255, 0, 255)
    values[:40] = colour
    # Colours that equal the transparent one in their high bytes only.
    values[40:50] = (65_534, 0, 1_001) if depth == 16 else (254, 0, 255)
    content = png(values, depth, 2, chunk(b"tRNS", struct.pack(">HHH", *colour)))
    expected = on_white(values >> (depth - 8), (values == colour).all(2))
    assert difference(content, expected) == 0


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [4, 6], ids=["grey", "rgb"])
def test_transparency_shows_a_white_page(depth: int, colour: int) -> None:
    alpha = np.tile(np.linspace(0, 255, WIDTH).round().astype(int), (HEIGHT, 1))
    plain = RGB if colour == 6 else LEVELS[:, :, None]
    values = np.dstack([plain, alpha]) * (257 if depth == 16 else 1)
    part = alpha[:, :, None] / 255
    expected = (RGB if colour == 6 else GREY) * part + 255 * (1 - part)
    assert difference(png(values, depth, colour), expected.round().astype(np.int64)) < 0.7


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alphas", [b"", b"\0", b"\xff\0", b"\x80\x40", bytes(range(256))])
def test_palettes_of_all_depths(depth: int, alphas: bytes) -> None:
    count = 2**depth
    alphas = alphas[:count]
    palette = np.random.default_rng(3).integers(0, 256, (count, 3))
    values = LEVELS * count // 256
    chunks = [chunk(b"PLTE", palette.astype(np.uint8).tobytes())]
    chunks += [chunk(b"tRNS", alphas)] if alphas else []
    full = np.frombuffer(alphas.ljust(count, b"\xff"), np.uint8)[values][:, :, None] / 255
    expected = palette[values] * full + 255 * (1 - full)
    assert difference(png(values, depth, 3, *chunks), expected.round().astype(np.int64)) < 0.7


@pytest.mark.parametrize("is_late", [True, False])
def test_numbers_without_a_palette_are_no_colours(is_late: bool) -> None:
    content = png(LEVELS % 16, 4, 3)
    palette = chunk(b"PLTE", bytes(range(48))) if is_late else b""
    assert reason(content[:-12] + palette + content[-12:]) == "undecodable"


def test_orientation_of_exif() -> None:
    turned = encode(PICTURE.transpose(Image.Transpose.ROTATE_90), "PNG")
    six = chunk(b"eXIf", encoded_exif(6)[6:])
    assert difference(with_chunks(turned, six), RGB) == 0
    assert difference(turned[:-12] + six + turned[-12:], RGB) == 0
    # Browsers know no EXIF in text, and no orientation in XMP.
    text = chunk(
        b"tEXt", b"Raw profile type exif\0\nexif\n   34\n" + encoded_exif(6).hex().encode()
    )
    assert difference(with_chunks(WHOLE, text), RGB) == 0


def animation(first_is_default: bool) -> bytes:
    """An animated PNG whose first frame is PICTURE."""
    if first_is_default:
        frames = [PICTURE.rotate(180)]
        return encode(PICTURE, "PNG", save_all=True, append_images=frames)
    other = PICTURE.rotate(180)
    frames = [PICTURE, other]
    return encode(other, "PNG", save_all=True, append_images=frames, default_image=True)


@pytest.mark.parametrize("first_is_default", [True, False])
def test_the_first_frame_of_an_animation_is_shown(first_is_default: bool) -> None:
    assert difference(animation(first_is_default), RGB) == 0


@pytest.mark.parametrize("blend", [0, 1])
@pytest.mark.parametrize("place", [(0, 0), (6, 10)])
def test_a_default_image_that_is_no_frame_is_not_seen(place: tuple[int, int], blend: int) -> None:
    """Neither around a smaller frame nor through a transparent one."""
    left, top = place
    height, width = HEIGHT - 2 * top, WIDTH - 2 * left
    alpha = np.full((height, width, 1), 255)
    alpha[:5] = 0
    frame = png(np.dstack([RGB[:height, :width], alpha]), 8, 6)
    pixels = frame[frame.index(b"IDAT") + 4 : -16]
    control = struct.pack(">IIIIIHHBB", 0, width, height, left, top, 1, 10, 0, blend)
    default = png(np.dstack([255 - RGB, np.full((HEIGHT, WIDTH, 1), 255)]), 8, 6)
    content = with_chunks(default[:-12], chunk(b"acTL", struct.pack(">II", 1, 0)))
    content += chunk(b"fcTL", control) + chunk(b"fdAT", struct.pack(">I", 1) + pixels)
    page = np.full_like(RGB, 255)
    page[top : top + height, left : left + width] = np.where(alpha, RGB[:height, :width], 255)
    assert np.array_equal(shown(content + default[-12:]), page)


@pytest.mark.parametrize("damage", ["no frames", "too wide", "too short"])
def test_the_default_image_is_shown_if_there_is_no_frame(damage: str) -> None:
    control = struct.pack(">IIIIIHHBB", 0, WIDTH + (damage == "too wide"), 9, 0, 0, 1, 10, 0, 0)
    frame = chunk(b"fcTL", control[: 20 if damage == "too short" else None])
    frame += chunk(b"fdAT", bytes(4) + zlib.compress(bytes(9)))
    whole = encode(PICTURE, "PNG")
    animated = with_chunks(
        whole[:-12], chunk(b"acTL", bytes(3) + bytes((damage != "no frames",)) + bytes(4))
    )
    assert difference(animated + frame + whole[-12:], RGB) == 0


def test_later_frames_may_be_missing() -> None:
    content = animation(True)
    assert difference(content[: content.index(b"fdAT") + 500], RGB) == 0


def test_colours_are_converted_before_transparency() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    ImageDraw.Draw(image).rectangle((0, 0, 3, 8), (255, 0, 0, 255))
    opaque, mixed = shown(encode(image, "PNG", icc_profile=ADOBE_RGB))[0, [0, 7]]
    assert np.abs(mixed - (opaque * 128 + 255 * 127) / 255).max() <= 1
