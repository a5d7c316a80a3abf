"""Colours are those that a browser shows: by the profile of the file, or by numbers in a PNG."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from curation.media.pictures.matrix_profile import P3, SRGB_CURVE, matrix_profile
from curation.media.pictures.upright import make_upright
from tests.pictures.files import (
    ADOBE_RGB,
    GREY,
    GREY_GAMMA_1,
    PICTURE,
    RGB,
    Ints,
    chunk,
    cmyk_profile,
    difference,
    encode,
    icc,
    png,
    shown,
    with_chunks,
    with_segments,
)

# Computed by hand from the primaries: linear light of the file, times the matrix to linear sRGB.
TO_SRGB = {
    "adobe": [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]],
    "p3": [[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09828]],
    "bt2020": [
        [1.66049, -0.58764, -0.07285],
        [-0.12455, 1.13290, -0.00835],
        [-0.01815, -0.10058, 1.11873],
    ],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}


def decoded(values: np.ndarray) -> np.ndarray:
    """Linear light of sRGB, from 0 to 1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def expected(pixels: Ints, space: str, gamma: float | None) -> Ints:
    """The colours in sRGB by the formulas; a gamma of None is the curve of sRGB."""
    parts = pixels / 255
    light = decoded(parts) if gamma is None else parts**gamma
    linear = (light @ np.array(TO_SRGB[space]).T).clip(0, 1)
    coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    rounded: Ints = (coded * 255).round().astype(np.int64)
    return rounded


DISPLAY_P3 = matrix_profile(P3, SRGB_CURVE)
ADOBE_SHOWN = expected(RGB, "adobe", 2.19921875)
P3_SHOWN = expected(RGB, "p3", None)
LOSSLESS: dict[str, Callable[[bytes], bytes]] = {
    "png": lambda profile: encode(PICTURE, "PNG", icc_profile=profile),
    "webp": lambda profile: encode(PICTURE, "WEBP", lossless=True, icc_profile=profile),
    "tiff": lambda profile: encode(PICTURE, "TIFF", icc_profile=profile),
    "rgba": lambda profile: encode(PICTURE.convert("RGBA"), "PNG", icc_profile=profile),
}


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("space", ["adobe", "p3"])
def test_profiles_are_applied(kind: str, space: str) -> None:
    profile = ADOBE_RGB if space == "adobe" else DISPLAY_P3
    # The rounding of dark colours is steep.
    assert difference(LOSSLESS[kind](profile), ADOBE_SHOWN if space == "adobe" else P3_SHOWN) < 1
    assert np.abs(ADOBE_SHOWN - RGB).mean() > 5 and np.abs(P3_SHOWN - RGB).mean() > 5


@pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
def test_profiles_of_lossy_files(kind: str) -> None:
    content = encode(PICTURE, kind, icc_profile=ADOBE_RGB)
    assert difference(content, ADOBE_SHOWN) < 6
    assert difference(content, ADOBE_SHOWN) < difference(content, RGB) / 2


def parts(profile: bytes, count: int = 1) -> list[bytes]:
    """The segments of a JPEG that hold a profile."""
    size = -(-len(profile) // count)
    cut = [profile[n * size : (n + 1) * size] for n in range(count)]
    data = [b"ICC_PROFILE\0" + bytes((n + 1, count)) + part for n, part in enumerate(cut)]
    return [b"\xff\xe2" + (len(part) + 2).to_bytes(2) + part for part in data]


PLAIN = encode(PICTURE)
AT_SCAN = PLAIN.index(b"\xff\xda")
TOO_LONG = (len(ADOBE_RGB) + 1).to_bytes(4) + ADOBE_RGB[4:]
IN_JPEG: dict[str, tuple[bytes, Ints]] = {
    "in parts": (with_segments(PLAIN, *parts(ADOBE_RGB, 3)), ADOBE_SHOWN),
    "in any order": (with_segments(PLAIN, *parts(ADOBE_RGB, 3)[::-1]), ADOBE_SHOWN),
    "without a part": (with_segments(PLAIN, *parts(ADOBE_RGB, 3)[1:]), RGB),
    "the first of two": (
        with_segments(PLAIN, *parts(ADOBE_RGB), *parts(DISPLAY_P3)),
        ADOBE_SHOWN,
    ),
    "the first of two, again": (
        with_segments(PLAIN, *parts(DISPLAY_P3), *parts(ADOBE_RGB)),
        P3_SHOWN,
    ),
    "after the frame": (
        PLAIN[:AT_SCAN] + b"".join(parts(ADOBE_RGB)) + PLAIN[AT_SCAN:],
        ADOBE_SHOWN,
    ),
    "longer than it is": (with_segments(PLAIN, *parts(TOO_LONG)), RGB),
}


@pytest.mark.parametrize("name", IN_JPEG)
def test_the_profile_of_a_jpeg(name: str) -> None:
    """As Chromium 156 shows them."""
    content, colours = IN_JPEG[name]
    assert difference(content, colours) < 4.5


def test_palettes_have_profiles_too() -> None:
    image = PICTURE.quantize(200)
    colours = np.asarray(image.convert("RGB")).astype(np.int64)
    content = encode(image, "PNG", icc_profile=ADOBE_RGB)
    assert difference(content, expected(colours, "adobe", 2.19921875)) < 1


def test_large_profiles_are_applied() -> None:
    large = ADOBE_RGB[:-1] + np.random.default_rng(0).bytes(3 * 2**20)
    large = struct.pack(">I", len(large)) + large[4:]
    assert difference(LOSSLESS["png"](large), ADOBE_SHOWN) < 1
    jpeg = encode(PICTURE, icc_profile=large)
    assert difference(jpeg, ADOBE_SHOWN) < 6


def test_profiles_for_grey_and_for_rgb_apply_to_grey_images() -> None:
    grey = PICTURE.convert("L")
    light = expected(GREY, "none", 1.0)
    assert difference(encode(grey, "PNG", icc_profile=GREY_GAMMA_1), light) < 1
    assert difference(encode(grey, icc_profile=GREY_GAMMA_1), light) < 4
    assert difference(encode(grey.convert("LA"), "PNG", icc_profile=GREY_GAMMA_1), light) < 1
    # Browsers apply profiles for RGB to grey images, too.
    both = expected(GREY, "adobe", 2.19921875)
    assert difference(encode(grey, "PNG", icc_profile=ADOBE_RGB), both) < 1


# Inks of cmyk_profile, and L* of what they show.
GREYS = {(0, 0, 0, 0): 100.0, (0, 0, 0, 255): 195 / 2.55, (255,) * 3 + (255,): 75 / 2.55}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("is_clear", [True, False])
def test_profiles_for_grey_apply_beside_transparency(depth: int, is_clear: bool) -> None:
    """Of each pixel, or of one level of grey that no pixel has."""
    levels = np.asarray(PICTURE.convert("L")).astype(np.int64).clip(1, 255)
    scale, profile = (257 if depth == 16 else 1), iccp(GREY_GAMMA_1)
    light = expected(np.stack([levels] * 3, -1), "none", 1.0)
    if is_clear:
        alpha = np.full_like(levels, 255)
        alpha[:9] = 0
        light[:9] = 255
        content = png(np.dstack([levels, alpha]) * scale, depth, 4, profile)
    else:
        content = png(levels * scale, depth, 0, profile, chunk(b"tRNS", b"\0\0"))
    assert difference(content, light) < 1


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("table", [b"A2B0", b"A2B1"])
def test_profiles_for_cmyk_decide_its_colours(kind: str, table: bytes) -> None:
    """The darkest colour of a press is not black: browsers show it as it is."""
    for inks, lightness in GREYS.items():
        light = ((lightness + 16) / 116) ** 3
        level = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
        image = Image.new("CMYK", (32, 32), inks)
        content = encode(image, kind, icc_profile=cmyk_profile(table))
        assert np.abs(shown(content) - level).max() <= 2
    image = PICTURE.convert("CMYK")
    content = encode(image, kind, icc_profile=cmyk_profile(table))
    assert difference(content, RGB) > 10


def lab() -> Image.Image:
    image = ImageCms.profileToProfile(
        PICTURE, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert image is not None
    return image


UNUSABLE: dict[str, tuple[bytes, str]] = {
    "junk": (b"junk" * 99, "RGB"),
    "empty": (b"", "RGB"),
    "cut": (ADOBE_RGB[: len(ADOBE_RGB) // 2], "RGB"),
    "without tags": (icc(b"RGB ", {}), "RGB"),
    "grey profile of an RGB image": (GREY_GAMMA_1, "RGB"),
    "press profile of an RGB image": (cmyk_profile(), "RGB"),
    "press profile of a grey image": (cmyk_profile(), "L"),
    "RGB profile of a CMYK image": (ADOBE_RGB, "CMYK"),
    "link": (icc(b"RGB ", {}, b"RGB ", b"link"), "RGB"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_profiles_that_cannot_be_used_are_ignored(name: str, kind: str) -> None:
    profile, mode = UNUSABLE[name]
    if kind == "PNG" and mode == "CMYK":
        return
    image = PICTURE.convert(mode)
    assert difference(encode(image, kind, icc_profile=profile), GREY if mode == "L" else RGB) < 4


def test_a_profile_named_srgb_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encode(PICTURE, icc_profile=srgb)
    assert make_upright(content, 10**8).original == encode(PICTURE)
    assert difference(LOSSLESS["png"](srgb), RGB) == 0


def test_lab_images_are_shown_in_srgb() -> None:
    assert difference(encode(lab(), "TIFF"), RGB) < 3


def test_gifs_have_no_profile_in_browsers() -> None:
    block = b"!\xff\x0bICCRGBG1012" + b"".join(
        bytes((len(part),)) + part
        for part in (ADOBE_RGB[n : n + 255] for n in range(0, len(ADOBE_RGB), 255))
    )
    image = PICTURE.quantize(200)
    gif = encode(image, "GIF")
    at = 13 + 3 * 2 ** ((gif[10] & 7) + 1)
    colours = np.asarray(image.convert("RGB")).astype(np.int64)
    assert difference(gif[:at] + block + b"\0" + gif[at:], colours) < 1


@pytest.mark.parametrize("has_profile", [True, False])
def test_the_profile_of_a_bmp(has_profile: bool) -> None:
    """As ImageMagick writes it."""
    pixels = encode(PICTURE, "BMP")
    info = pixels[14:54].replace(struct.pack("<I", 40), struct.pack("<I", 124), 1) + bytes(16)
    place = struct.pack("<II", 124 + len(pixels) - 54, len(ADOBE_RGB))
    info += (b"DEBM" if has_profile else b"BGRs") + bytes(52) + place + bytes(4)
    content = pixels[:10] + struct.pack("<I", 14 + 124) + info + pixels[54:] + ADOBE_RGB
    assert difference(content, ADOBE_SHOWN if has_profile else RGB) < 1


def gamma_chunk(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(1e5 / gamma)))


def chromaticities(*points: float) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(p * 1e5) for p in points)))


SRGB_POINTS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE_POINTS = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
P3_POINTS = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
SRGB_CHUNK = chunk(b"sRGB", b"\0")


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def cicp(primaries: int, transfer: int) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, 0, 1)))


# By the third edition of PNG, the first of cICP, iCCP, sRGB, gAMA with cHRM counts.
NUMBERS: dict[str, tuple[bytes, str, float | None]] = {
    "usual gamma": (gamma_chunk(2.2), "none", None),
    "usual gamma and primaries": (gamma_chunk(2.2) + chromaticities(*SRGB_POINTS), "none", None),
    "gamma 1": (gamma_chunk(1.0), "none", 1.0),
    "gamma 1.8": (gamma_chunk(1.8), "none", 1.8),
    "gamma of Adobe RGB, and its primaries": (
        gamma_chunk(1.0) + chromaticities(*ADOBE_POINTS),
        "adobe",
        1.0,
    ),
    "primaries alone": (chromaticities(*P3_POINTS), "p3", None),
    "sRGB over gamma": (gamma_chunk(1.0) + SRGB_CHUNK, "none", None),
    "profile over sRGB": (SRGB_CHUNK + iccp(ADOBE_RGB), "adobe", 2.19921875),
    "profile over gamma": (gamma_chunk(1.0) + iccp(ADOBE_RGB), "adobe", 2.19921875),
    "gamma if the profile is broken": (gamma_chunk(1.0) + iccp(b"junk"), "none", 1.0),
    "cICP of P3": (cicp(12, 13), "p3", None),
    "cICP of BT.2020 with the curve of sRGB": (cicp(9, 13), "bt2020", None),
    "cICP of sRGB over profile": (cicp(1, 13) + iccp(ADOBE_RGB), "none", None),
    "cICP of BT.709": (cicp(1, 1), "none", 2.4),
    "cICP of BT.2020": (cicp(9, 14), "bt2020", 2.4),
    "cICP of a gamma": (cicp(1, 4), "none", 2.2),
    "cICP of linear light": (cicp(12, 8), "p3", 1.0),
    "cICP of film is not known": (cicp(9, 17) + SRGB_CHUNK, "none", None),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_colours_that_a_png_describes(name: str) -> None:
    chunks, space, gamma = NUMBERS[name]
    content = with_chunks(encode(PICTURE, "PNG"), chunks)
    assert difference(content, expected(RGB, space, gamma)) < 1


# Numbers of a file, and what Chromium 156 shows of them (`--force-color-profile=srgb`).
HIGH_RANGE: dict[tuple[int, int], dict[tuple[int, int, int], tuple[int, int, int]]] = {
    (9, 16): {
        (75, 75, 75): (42, 42, 42),
        (130, 130, 130): (137, 137, 137),
        (162, 162, 162): (217, 217, 217),
        (184, 184, 184): (246, 246, 246),
        (195, 195, 195): (255, 255, 255),
        (130, 0, 0): (173, 0, 0),
        (0, 0, 130): (0, 0, 144),
    },
    (9, 18): {
        (75, 75, 75): (52, 52, 52),
        (130, 130, 130): (101, 101, 101),
        (222, 222, 222): (226, 226, 226),
        (255, 255, 255): (255, 255, 255),
        (130, 0, 0): (113, 0, 0),
        (0, 0, 130): (0, 0, 81),
    },
    (1, 16): {(130, 0, 0): (137, 0, 0), (162, 0, 0): (236, 0, 0), (0, 0, 162): (0, 0, 222)},
    (1, 18): {(130, 0, 0): (87, 0, 0), (0, 0, 130): (0, 0, 79)},
}


@pytest.mark.parametrize("codes", HIGH_RANGE)
def test_high_dynamic_range_is_shown_as_on_a_usual_screen(codes: tuple[int, int]) -> None:
    of_file, of_browser = map(list, (HIGH_RANGE[codes], HIGH_RANGE[codes].values()))
    content = png(np.array([of_file]), 8, 2, cicp(*codes))
    assert np.abs(shown(content) - np.array([of_browser])).max() <= 2


def test_the_gamma_of_a_grey_png() -> None:
    grey = np.asarray(PICTURE.convert("L")).astype(np.int64)
    light = expected(GREY, "none", 1.0)
    assert difference(png(grey, 8, 0, gamma_chunk(1.0)), light) < 1
    assert difference(png(grey * 257, 16, 0, gamma_chunk(1.0)), light) < 1


def test_ycck_files_of_adobe() -> None:
    inks = np.asarray(PICTURE.convert("CMYK"))
    luma = np.asarray(Image.fromarray(np.ascontiguousarray(inks[:, :, :3])).convert("YCbCr"))
    # Pillow writes four planes inverted, and as CMYK.
    planes = np.dstack([255 - luma, inks[:, :, 3]])
    content = encode(Image.fromarray(planes, "CMYK"))
    at = content.index(b"Adobe") + 11
    assert content[at] == 0
    assert difference(content[:at] + b"\2" + content[at + 1 :], RGB) < 4
