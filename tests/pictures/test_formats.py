"""Which formats are read, how they look, and which are only named in the reason."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from curation.errors import RecipeError
from curation.media.pictures.formats import FORMATS, pillow_formats
from curation.media.pictures.plug_ins import PLUG_INS
from curation.media.pictures.upright import make_upright
from curation.stages.fetch.params import FetchParams
from tests.pictures.files import (
    GREY,
    HEIGHT,
    PICTURE,
    RGB,
    WIDTH,
    Ints,
    difference,
    encode,
    encoded_exif,
    reason,
    shown,
    textured,
)

LEVELS = np.asarray(PICTURE.convert("L")).astype(np.int64)
PALETTE = PICTURE.quantize(200)
COLOURS = np.asarray(PALETTE.convert("RGB")).astype(np.int64)
ALPHA = np.tile(np.linspace(0, 255, WIDTH).round().astype(np.uint8), (HEIGHT, 1))
CLEAR = Image.fromarray(np.dstack([RGB.astype(np.uint8), ALPHA]))
ON_WHITE: Ints = (RGB * (ALPHA[:, :, None] / 255) + 255 - ALPHA[:, :, None]).round().astype(int)
BRIGHT: Ints = np.minimum(RGB * 2, 255)
BLACK_WHITE = PICTURE.convert("1")
TWO: Ints = np.repeat(np.asarray(BLACK_WHITE.convert("L")).astype(int)[:, :, None], 3, 2)


def grey16() -> Image.Image:
    return Image.fromarray((LEVELS * 257).astype(np.uint16))


def jpeg_2000(levels: Ints, bits: int) -> bytes:
    """A JPEG 2000 of more than 8 bits, of levels of 8 bits: grey, RGB or RGBA."""
    values = (levels * (2**bits - 1) + 127) // 255
    # OpenCV writes 16 bits. Their middle, which the file leaves out, becomes that of fewer bits.
    values = values + 2**15 - 2 ** (bits - 1)
    order = [2, 1, 0, 3][: values.shape[-1]]
    values = values if values.ndim == 2 else values[:, :, order]
    content = bytearray(cv2.imencode(".jp2", values.astype(np.uint16))[1].tobytes())
    first = content.find(b"\xff\x4f\xff\x51") + 42
    for component in range(1 if values.ndim == 2 else values.shape[2]):
        content[first + 3 * component] = bits - 1
    return bytes(content)


def tiff(values: np.ndarray, bits: int, photometric: int = 1, kind: int = 1) -> bytes:
    """An uncompressed grey TIFF; `kind` is 1 for whole, 2 for signed numbers, 3 for floats."""
    data = values.tobytes()
    tags = [(256, WIDTH), (257, HEIGHT), (258, bits), (259, 1), (262, photometric), (273, 200)]
    tags += [(277, 1), (278, HEIGHT), (279, len(data)), (339, kind)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4)
    return head.ljust(200, b"\0") + data


def bmp32(alpha: int, header: int = 124) -> bytes:
    """A BMP of 32 bits, with masks for its colours and its alpha."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", header, WIDTH, HEIGHT, 1, 32, 3, 0, 0, 0, 0, 0) + masks
    pixels = np.dstack([RGB[::-1, :, ::-1], np.full((HEIGHT, WIDTH, 1), alpha)]).astype(np.uint8)
    offset = 14 + header
    file = struct.pack("<2sIHHI", b"BM", offset + pixels.size, 0, 0, offset)
    return file + info.ljust(header, b"\0") + pixels.tobytes()


def bmp_rle8() -> bytes:
    """A BMP of runs: each row has two colours."""
    palette = b"".join(bytes((n, 255 - n, n // 2, 0)) for n in range(256))
    rows = b"".join(bytes((80, y, 80, 255 - y, 0, 0)) for y in range(HEIGHT)) + b"\0\1"
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(rows), 0, 0, 0, 0)
    file = struct.pack("<2sIHHI", b"BM", 54 + 1024 + len(rows), 0, 0, 54 + 1024)
    return file + info + palette + rows


def runs() -> Ints:
    index = np.repeat(np.arange(HEIGHT)[::-1, None], WIDTH, 1)
    index = np.where(np.arange(WIDTH) < 80, index, 255 - index)
    return np.dstack([index // 2, 255 - index, index])


SHOWN: dict[str, tuple[bytes, Ints, str]] = {
    "avif": (encode(PICTURE, "AVIF", quality=95), RGB, "avif"),
    "avif with alpha": (encode(CLEAR, "AVIF", quality=95), ON_WHITE, "avif"),
    "avif turned": (
        encode(
            PICTURE.transpose(Image.Transpose.ROTATE_90), "AVIF", quality=95, exif=encoded_exif(6)
        ),
        RGB,
        "avif",
    ),
    "jpeg 2000": (encode(PICTURE, "JPEG2000"), RGB, "jpeg2000"),
    "jpeg 2000 codestream": (encode(PICTURE, "JPEG2000", no_jp2=True), RGB, "jpeg2000"),
    "jpeg 2000 with alpha": (encode(CLEAR, "JPEG2000"), ON_WHITE, "jpeg2000"),
    "jpeg 2000 of 16 bits": (encode(grey16(), "JPEG2000"), GREY, "jpeg2000"),
    "jpeg 2000 of 12 bits": (jpeg_2000(LEVELS, 12), GREY, "jpeg2000"),
    "jpeg 2000 of 10 bits": (jpeg_2000(BRIGHT, 10), BRIGHT, "jpeg2000"),
    "jpeg 2000 of 16 bits in colour": (jpeg_2000(BRIGHT, 16), BRIGHT, "jpeg2000"),
    "jpeg 2000 of 16 bits with alpha": (
        jpeg_2000(np.dstack([RGB, ALPHA]), 16),
        ON_WHITE,
        "jpeg2000",
    ),
    "icon": (encode(PICTURE, "ICO", sizes=[(WIDTH, HEIGHT)]), RGB, "ico"),
    "icon with alpha": (encode(CLEAR, "ICO", sizes=[(WIDTH, HEIGHT)]), ON_WHITE, "ico"),
    "icon of bitmaps": (
        encode(PICTURE, "ICO", sizes=[(WIDTH, HEIGHT)], bitmap_format="bmp"),
        RGB,
        "ico",
    ),
    "ppm": (encode(PICTURE, "PPM"), RGB, "ppm"),
    "pgm": (encode(PICTURE.convert("L"), "PPM"), GREY, "ppm"),
    "pbm": (encode(BLACK_WHITE, "PPM"), TWO, "ppm"),
    "pgm of 16 bits": (
        b"P5\n%d %d\n65535\n" % (WIDTH, HEIGHT) + (LEVELS * 257).astype(">u2").tobytes(),
        GREY,
        "ppm",
    ),
    "ppm of 16 bits": (
        b"P6\n%d %d\n65535\n" % (WIDTH, HEIGHT) + (RGB * 257).astype(">u2").tobytes(),
        RGB,
        "ppm",
    ),
    "bmp": (encode(PICTURE, "BMP"), RGB, "bmp"),
    "bmp of one bit": (encode(BLACK_WHITE, "BMP"), TWO, "bmp"),
    "bmp with an opaque alpha": (bmp32(255), RGB, "bmp"),
    "bmp with half an alpha": (bmp32(128), (RGB * 128 + 255 * 127) // 255, "bmp"),
    "bmp with an unused alpha": (bmp32(0), RGB, "bmp"),
    "bmp of runs": (bmp_rle8(), runs(), "bmp"),
    "webp with alpha": (encode(CLEAR, "WEBP", lossless=True, exact=True), ON_WHITE, "webp"),
    "tiff of one bit": (encode(BLACK_WHITE, "TIFF", compression="group4"), TWO, "tiff"),
    "tiff of 16 bits": (encode(grey16(), "TIFF"), GREY, "tiff"),
    "tiff of 16 bits, white is zero": (
        tiff((65_535 - LEVELS * 257).astype("<u2"), 16, 0),
        GREY,
        "tiff",
    ),
    "tiff of 8 bits, white is zero": (tiff((255 - LEVELS).astype("u1"), 8, 0), GREY, "tiff"),
    "tiff with alpha": (encode(CLEAR, "TIFF"), ON_WHITE, "tiff"),
    "tiff with a palette": (encode(PALETTE, "TIFF"), COLOURS, "tiff"),
    "tiff of cmyk": (encode(PICTURE.convert("CMYK"), "TIFF"), RGB, "tiff"),
    "tiff of ycbcr": (encode(PICTURE.convert("YCbCr"), "TIFF", compression="raw"), RGB, "tiff"),
    "tiff of jpeg": (encode(PICTURE, "TIFF", compression="jpeg", quality=95), RGB, "tiff"),
    "tiff of two pages": (
        encode(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(180)]),
        RGB,
        "tiff",
    ),
    "big tiff": (encode(PICTURE, "TIFF", big_tiff=True), RGB, "tiff"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_files_are_shown_as_in_a_browser(name: str) -> None:
    content, expected, kind = SHOWN[name]
    assert difference(content, expected) < 4
    assert make_upright(content, 10**8).format == kind


WIDE = textured(400, 150)
BACK = {
    **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180},
    **{4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE},
    **{6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90},
}


@pytest.mark.parametrize("orientation", [1, *BACK])
@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"]
)
def test_a_turned_tiff_is_shown_upright(orientation: int, compression: str) -> None:
    """As scanners write it; a wide one has many strips."""
    stored = WIDE.convert("1") if compression == "group4" else WIDE
    turn = BACK.get(orientation)
    shown_as = (stored if turn is None else stored.transpose(turn)).convert("RGB")
    content = encode(stored, "TIFF", compression=compression, exif=encoded_exif(orientation))
    assert difference(content, np.asarray(shown_as).astype(np.int64)) < 6


CUT = {
    "webp": encode(PICTURE, "WEBP", quality=90),
    "lossless webp": encode(PICTURE, "WEBP", lossless=True),
    "gif": encode(PALETTE, "GIF"),
    "bmp": encode(PICTURE, "BMP"),
    "raw tiff": encode(PICTURE, "TIFF"),
    "lzw tiff": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "deflate tiff": encode(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "jpeg tiff": encode(PICTURE, "TIFF", compression="jpeg"),
    "avif": encode(PICTURE, "AVIF"),
    "jpeg 2000": encode(PICTURE, "JPEG2000"),
    "ico": encode(PICTURE, "ICO", sizes=[(WIDTH, HEIGHT)]),
    "ppm": encode(PICTURE, "PPM"),
}


@pytest.mark.parametrize("name", CUT)
@given(part=st.floats(0, 0.97))
@settings(max_examples=10, deadline=None)
def test_no_cut_file_has_pixels(name: str, part: float) -> None:
    content = CUT[name]
    cut = content[: int(part * len(content))]
    assert reason(cut) in ("truncated", "undecodable", "not_an_image", "empty")


def closed_gif(part: float) -> bytes:
    """A GIF that lacks a part of its pixels and ends properly."""
    content = CUT["gif"]
    start = end = Image.open(io.BytesIO(content)).tile[0][2]
    while content[end] and end - start < part * (len(content) - start):
        end += content[end] + 1
    return content[:end] + b"\0;"


def closed_webp(part: float, lossless: bool) -> bytes:
    """A WebP that lacks a part of its pixels, with sizes that say so."""
    content = CUT["lossless webp" if lossless else "webp"]
    cut = content[: int(part * len(content)) // 2 * 2]
    sizes = struct.pack("<I", len(cut) - 8), struct.pack("<I", len(cut) - 20)
    return cut[:4] + sizes[0] + cut[8:16] + sizes[1] + cut[20:]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_files_that_end_early_and_properly_have_no_pixels(part: float) -> None:
    assert reason(closed_gif(part)) == "truncated"
    assert reason(closed_webp(part, True)) == reason(closed_webp(part, False)) == "undecodable"


@pytest.mark.parametrize("name", ["webp", "lossless webp", "gif", "bmp", "raw tiff", "avif", "ico"])
def test_bytes_after_the_end_do_not_matter(name: str) -> None:
    np.testing.assert_array_equal(shown(CUT[name] + b"junk" * 25), shown(CUT[name]))


def test_the_page_of_a_gif_is_white_around_a_smaller_frame() -> None:
    content = encode(Image.new("P", (20, 10), 1).convert("RGB").quantize(2), "GIF")
    larger = content[:6] + struct.pack("<HH", 40, 30) + content[10:]
    pixels = shown(larger)
    assert pixels.shape == (30, 40, 3)
    np.testing.assert_array_equal(pixels[:10, :20], shown(content))
    assert (pixels[10:] == 255).all() and (pixels[:, 20:] == 255).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_page_of_an_animated_webp_is_white_around_a_smaller_frame(mode: str) -> None:
    """Cut out of a still file, since writers make the page as large as the first frame."""
    still = encode(PICTURE.convert(mode), "WEBP", lossless=True)[12:]
    head = struct.pack("<4sI", b"VP8X", 10) + b"\x02\0\0\0" + sides(WIDTH + 20, HEIGHT + 30)
    page = head + struct.pack("<4sI", b"ANIM", 6) + b"\0\0\xff\xff\0\0"
    place = (4).to_bytes(3, "little") + (6).to_bytes(3, "little")
    frame = place + sides(WIDTH, HEIGHT) + (100).to_bytes(3, "little") + b"\0" + still
    body = b"WEBP" + page + struct.pack("<4sI", b"ANMF", len(frame)) + frame
    pixels = shown(struct.pack("<4sI", b"RIFF", len(body)) + body)
    assert pixels.shape == (HEIGHT + 30, WIDTH + 20, 3)
    assert np.array_equal(pixels[12 : 12 + HEIGHT, 8 : 8 + WIDTH], RGB)
    pixels[12 : 12 + HEIGHT, 8 : 8 + WIDTH] = 255
    assert (pixels == 255).all()


def sides(width: int, height: int) -> bytes:
    """Width and height as WebP has them."""
    return (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def test_transparent_pixels_of_a_gif_are_white() -> None:
    index = np.asarray(PALETTE)
    expected = np.where((index == 3)[:, :, None], 255, COLOURS)
    assert difference(encode(PALETTE, "GIF", transparency=3), expected) == 0


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_white_are_not_read(mode: str) -> None:
    assert reason(encode(PICTURE.convert("L").convert(mode), "TIFF")) == "unsupported_format"


NAMED = {
    b"\0\0\0\x18ftypheic" + b"\0" * 200: "format_heic",
    b"\0\0\0\x20ftypmif1\0\0\0\0mif1heic" + b"\0" * 200: "format_heic",
    b"\xff\x0a" + b"\0" * 200: "format_jxl",
    b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 200: "format_jxl",
    b"8BPS\0\1" + b"\0" * 200: "format_psd",
    b"qoif" + b"\0" * 200: "format_qoi",
    b"\x76\x2f\x31\x01" + b"\0" * 200: "format_exr",
    b"\0\0\0\x1cftypavif" + b"\0" * 200: "undecodable",
    b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif" + b"\0" * 200: "undecodable",
    b"\0\0\0\x20ftypisom\0\0\0\0isommp42" + b"\0" * 200: "not_an_image",
    b"\0\0\1\0" + b"\xff" * 200: "undecodable",
    b"\xef\xbb\xbf\n<svg xmlns='http://www.w3.org/2000/svg'/>": "format_svg",
    b"<?xml version='1.0'?><!-- by hand --><!DOCTYPE svg [ ]>\n<svg>": "format_svg",
    b"<!-- a page --><html><body><svg></svg></body></html>": "not_an_image",
    b"<!DOCTYPE html><html><body><svg></svg></body></html>": "not_an_image",
    b"\0\0\2\0\0\0\0\0" + b"\x20" * 200: "format_tga",
    b"\0\0\2\0\1\0" + b"\x20" * 200: "format_cur",
    b"\0\0\x0a\0\0\0\0\0" + b"\x20" * 200: "format_tga",
    b"%PDF-1.7\n" + b"\0" * 200: "format_pdf",
    b"%!PS-Adobe-3.0 EPSF-3.0\n": "format_eps",
    b"\xc5\xd0\xd3\xc6" + b"\0" * 200: "format_eps",
    b"\xd7\xcd\xc6\x9a\0\0" + b"\0" * 200: "format_wmf",
    b"\1\0\0\0" + b"\0" * 36 + b" EMF" + b"\0" * 200: "format_emf",
    b"\0" * 128 + b"DICM" + b"\0" * 200: "format_dicom",
    b"#define a_width 8\n#define a_height 8\nstatic char a_bits[] = {0};": "format_xbm",
    b"/* XPM */\nstatic char *a[] = {": "format_xpm",
    b"SIMPLE  =                    T" + b" " * 200: "format_fits",
    b"/annex/objects/SHA256E-s9--0a.jpg\n": "format_git_annex_pointer",
    b"\n<html>": "not_an_image",
    b"#define WIDTH 8\n": "not_an_image",
    b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 200: "format_raw",
    b"IIU\0\x18\0\0\0" + b"\0" * 200: "format_raw",
    b"FUJIFILMCCD-RAW 0201" + b"\0" * 200: "format_raw",
    b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + b"\0" * 200: "format_raw",
}


@pytest.mark.parametrize("content", NAMED, ids=range(len(NAMED)))
def test_formats_that_are_not_read_are_named(content: bytes) -> None:
    assert reason(content) == NAMED[content]


WRITTEN = ("BLP", "DDS", "EPS", "ICNS", "PCX", "PSD", "QOI", "SGI", "TGA", "XBM")
"""Formats that Pillow writes, and that are not read here."""


@pytest.mark.parametrize("kind", sorted({*WRITTEN} & Image.SAVE.keys()))
def test_what_pillow_writes_is_read_or_named(kind: str) -> None:
    modes = {"XBM": "1", "BLP": "P"}
    content = encode(PICTURE.convert(modes.get(kind, "RGB")), kind)
    assert reason(content) == f"format_{kind.lower()}"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bits", [8, 16])
def test_planes_of_a_tiff_are_its_colours(order: str, compression: str | None, bits: int) -> None:
    """GDAL writes them apart. Pillow reads those of 16 bits as bytes."""
    planes = np.moveaxis(RGB, 2, 0) * (257 if bits == 16 else 1)
    options: dict[str, Any] = {"byteorder": order, "compression": compression}
    kind = np.uint16 if bits == 16 else np.uint8
    out = io.BytesIO()
    tifffile.imwrite(
        out, planes.astype(kind), photometric="rgb", planarconfig="separate", **options
    )
    assert difference(out.getvalue(), RGB) == 0


@pytest.mark.parametrize("thumbnails", [0, 1, 2, 9])
@pytest.mark.parametrize("is_last_whole", [True, False])
def test_a_thumbnail_before_the_picture_is_not_shown(thumbnails: int, is_last_whole: bool) -> None:
    pixels, out = RGB.astype(np.uint8), io.BytesIO()
    with tifffile.TiffWriter(out) as pages:
        for number in range(thumbnails):
            pages.write(
                pixels[:: 8 - number % 2, :: 8 - number % 2], photometric="rgb", subfiletype=1
            )
        pages.write(pixels, photometric="rgb", subfiletype=0 if is_last_whole else 1)
    is_shown = thumbnails == 0 or (is_last_whole and thumbnails < 9)
    assert shown(out.getvalue()).shape == (RGB if is_shown else RGB[::8, ::8]).shape
    # Its size is looked at before it is read.
    assert reason(out.getvalue(), 500) == ("too_many_pixels" if is_shown else None)


def test_grey_with_transparency_in_a_tiff_of_jpegs_is_shown() -> None:
    image = PICTURE.convert("LA")
    image.putalpha(Image.fromarray(ALPHA))
    content = encode(image, "TIFF", compression="jpeg", quality=100)
    expected = (LEVELS * (ALPHA / 255) + 255 - ALPHA).round().astype(int)
    assert difference(content, np.dstack([expected] * 3)) < 1
    assert reason(content[: len(content) // 2]) in ("truncated", "undecodable")


@pytest.mark.parametrize("scale", [1, 257])
def test_a_map_of_colours_may_hold_bytes(scale: int) -> None:
    ramp = np.arange(256)
    colours = np.stack([ramp, 255 - ramp, ramp * 0]).astype(np.uint16) * scale
    out = io.BytesIO()
    tifffile.imwrite(out, LEVELS.astype(np.uint8), photometric="palette", colormap=colours)
    assert difference(out.getvalue(), np.dstack([LEVELS, 255 - LEVELS, LEVELS * 0])) == 0


def test_numbers_with_a_sign_and_planes_of_inks_are_not_read() -> None:
    inks = np.stack([LEVELS, LEVELS, LEVELS, LEVELS]).astype(np.uint16)
    written: list[dict[str, Any]] = [
        {"data": (LEVELS - 128).astype(np.int8)},
        {"data": inks, "photometric": "separated", "planarconfig": "separate"},
    ]
    for options in written:
        out = io.BytesIO()
        tifffile.imwrite(out, **options)
        assert reason(out.getvalue()) == "unsupported_format"


def grey_tiff(pixels: Ints, tags: dict[int, int], mark: bytes = b"") -> bytes:
    """A TIFF of grey pixels with more tags, and with a mark behind its header."""
    height, width = pixels.shape
    start = 8 + len(mark)
    known = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 278: height, 279: pixels.size}
    entries = known | tags
    entries[273] = start + 2 + 12 * (len(entries) + 1) + 4
    directory = b"".join(struct.pack("<HHII", n, 4, 1, entries[n]) for n in sorted(entries))
    header = b"II*\0" + struct.pack("<I", start) + mark + struct.pack("<H", len(entries))
    return header + directory + b"\0" * 4 + pixels.astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    ("tags", "mark", "why"),
    [
        ({50706: 0x401}, b"", "format_raw"),
        ({254: 1, 330: 8}, b"", "format_raw"),
        ({}, b"CR\2\0\0\0\0\0", "format_raw"),
        ({254: 1}, b"", None),
        ({254: 0, 330: 8}, b"", None),
        ({}, b"", None),
    ],
)
def test_the_preview_of_a_raw_file_is_no_picture(
    tags: dict[int, int], mark: bytes, why: str | None
) -> None:
    """Pillow shows what stands first in such a file: DNG, NEF or CR2."""
    assert reason(grey_tiff(LEVELS, tags, mark)) == why


@given(st.binary(max_size=300), st.sampled_from([b"", *NAMED, *(c[:40] for c in CUT.values())]))
@settings(max_examples=100, deadline=None)
def test_any_bytes_have_pixels_or_a_reason(content: bytes, start: bytes) -> None:
    reason(start[:40] + content)


SIDE = 32
SQUARE: Ints = RGB[:SIDE, :SIDE]
NEGATIVE: Ints = 255 - SQUARE
MASK = np.tile(np.arange(SIDE) >= SIDE // 2, (SIDE, 1))
"""Whether the mask of an icon hides a pixel: its right half."""
HALF = np.tile(np.where(np.arange(SIDE) < SIDE // 2, 128, 0), (SIDE, 1))
NONE: Ints = np.zeros((SIDE, SIDE), int)


def dib(pixels: Ints, alpha: Ints | None = None, has_mask: bool = True) -> bytes:
    """An image of an icon with MASK; of 32 bits a pixel if there is `alpha`, and of 24 otherwise."""
    bgr = pixels[::-1, :, ::-1]
    values = bgr if alpha is None else np.dstack([bgr, alpha[::-1]])
    bits = 8 * values.shape[2]
    head = struct.pack("<IiiHHIIiiII", 40, SIDE, 2 * SIDE, 1, bits, 0, 0, 0, 0, 0, 0)
    mask = np.packbits(MASK[::-1], axis=1).tobytes() if has_mask else b""
    return head + values.astype(np.uint8).tobytes() + mask


def icon_of(*images: tuple[int, bytes]) -> bytes:
    """An icon of images of SIDE, each with the bits that the directory states."""
    head, at, data = struct.pack("<HHH", 0, 1, len(images)), 6 + 16 * len(images), b""
    for bits, image in images:
        head += struct.pack("<BBBBHHII", SIDE, SIDE, 0, 0, 1, bits, len(image), at + len(data))
        data += image
    return head + data


MASKED: Ints = np.where(MASK[:, :, None], 255, SQUARE)
HALF_SHOWN: Ints = np.where(MASK[:, :, None], 255, (SQUARE * 128 + 255 * 127) // 255)
PNG_OF_SQUARE = encode(Image.fromarray(SQUARE.astype(np.uint8)), "PNG")
ICONS: dict[str, tuple[bytes, Ints]] = {
    "24 bits and a mask": (icon_of((24, dib(SQUARE))), MASKED),
    "32 bits": (icon_of((32, dib(SQUARE, HALF))), HALF_SHOWN),
    "32 bits without transparency": (icon_of((32, dib(SQUARE, NONE))), MASKED),
    "32 bits without transparency and mask": (icon_of((32, dib(SQUARE, NONE, False))), SQUARE),
    "32 bits without a mask": (icon_of((32, dib(SQUARE, HALF, False))), HALF_SHOWN),
    "no bits in the directory": (icon_of((0, dib(SQUARE, HALF))), HALF_SHOWN),
    "24 bits of 32": (icon_of((24, dib(SQUARE, HALF))), HALF_SHOWN),
    "32 bits of 24": (icon_of((32, dib(SQUARE))), MASKED),
    "more bits later": (icon_of((24, dib(NEGATIVE)), (32, dib(SQUARE, HALF))), HALF_SHOWN),
    "more bits first": (icon_of((32, dib(SQUARE, HALF)), (24, dib(NEGATIVE))), HALF_SHOWN),
    "a PNG of more bits": (icon_of((8, dib(NEGATIVE)), (32, PNG_OF_SQUARE)), SQUARE),
    "no bits are eight": (
        icon_of((4, dib(NEGATIVE)), (0, dib(SQUARE)), (8, dib(NEGATIVE))),
        MASKED,
    ),
}


@pytest.mark.parametrize("name", ICONS)
def test_icons_are_shown_as_in_a_browser(name: str) -> None:
    """As Chromium 156 shows them."""
    content, expected = ICONS[name]
    assert np.abs(shown(content) - expected).max() <= 1


def test_an_icon_is_as_large_as_the_image_within_it() -> None:
    inside = encode(Image.new("RGB", (1500, 1000)), "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inside), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + inside
    assert reason(icon, 500_000) == "too_many_pixels"
    assert shown(icon).shape == (1000, 1500, 3)


def test_a_plug_in_reads_its_format_if_the_recipe_lists_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module stands for pillow-heif: it reads BMP behind a header of HEIC."""
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import BmpImagePlugin, Image\n"
        "class Heif(BmpImagePlugin.BmpImageFile):\n"
        "    format = 'HEIF'\n"
        "    def _open(self):\n"
        "        self.fp.seek(16)\n"
        "        self.fp = __import__('io').BytesIO(self.fp.read())\n"
        "        super()._open()\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', Heif, lambda start: start[4:12] == b'ftypheic')\n"
    )
    content = b"\0\0\0\x10ftypheic\0\0\0\0" + encode(PICTURE, "BMP")
    monkeypatch.syspath_prepend(tmp_path)
    # It may be installed, and loaded by other tests.
    monkeypatch.delitem(sys.modules, "pillow_heif", raising=False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    pillow_formats.cache_clear()
    try:
        image = make_upright(content, 10**8, ["heic"])
        assert image.format == "heic"
        np.testing.assert_array_equal(image.pixels, RGB)
        # Other runs of this process do not read it.
        assert reason(content) == "format_heic"
    finally:
        sys.modules.pop("pillow_heif", None)
        Image.OPEN.pop("HEIF", None)
        Image.ID[:] = [name for name in Image.ID if name != "HEIF"]
        pillow_formats.cache_clear()


@pytest.mark.parametrize("kind", PLUG_INS)
def test_a_plug_in_that_is_not_installed_stops_the_run(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PLUG_INS[kind].module, None)
    with pytest.raises(RecipeError, match=r"fetch.formats.*pip install 'curation\["):
        pillow_formats((kind,))


def test_a_recipe_lists_only_formats_of_plug_ins() -> None:
    assert FetchParams.model_validate({"formats": ["jxl", "heic", "jxl"]}).formats == [
        "heic",
        "jxl",
    ]
    with pytest.raises(ValidationError, match=r"avif: known here are heic, jxl"):
        FetchParams.model_validate({"formats": ["avif"]})


def test_each_plug_in_adds_a_format_that_is_read() -> None:
    assert {plug_in.name: kind for kind, plug_in in PLUG_INS.items()}.items() <= FORMATS.items()
