"""Files of images that are unusual or damaged."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from curation.media.pictures.upright import make_upright
from curation.media.web.fetch_error import FetchError
from tests.fetch.helpers import encoded

Ints = npt.NDArray[np.int64]
WIDTH, HEIGHT = 160, 120


def textured(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A colourful image without symmetry, with detail in all its parts."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noisy = smooth + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


PICTURE = textured()
RGB: Ints = np.asarray(PICTURE).astype(np.int64)
GREY: Ints = np.repeat(np.asarray(PICTURE.convert("L")).astype(np.int64)[:, :, None], 3, 2)


def shown(content: bytes) -> Ints:
    """The pixels of a file, (height, width, 3)."""
    pixels = make_upright(content, 10**8).pixels
    three = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)
    return three.astype(np.int64)


def difference(content: bytes, expected: Ints) -> float:
    """The mean difference of the pixels of a file, of 255; its size must be as expected."""
    pixels = shown(content)
    assert pixels.shape == expected.shape
    return float(np.abs(pixels - expected).mean())


def reason(content: bytes, max_pixels: int = 10**8) -> str | None:
    """Why a file has no pixels, or None."""
    try:
        make_upright(content, max_pixels)
    except FetchError as error:
        return error.reason
    return None


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments after its start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def with_sound_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, as far as they are whole."""
    parts, at = [png[:8]], 8
    while (end := at + 12 + int.from_bytes(png[at : at + 4])) <= len(png):
        parts.append(chunk(png[at + 4 : at + 8], png[at + 8 : end - 4]))
        at = end
    return b"".join([*parts, png[at:]])


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def png(values: npt.NDArray[np.integer], depth: int, colour: int, *chunks: bytes) -> bytes:
    """A PNG of a bit depth and a colour type.

    Args:
        values: samples, (height, width[, channels]), each below 2 to the depth.
        depth: 1, 2, 4, 8 or 16.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        chunks: before the pixels.
    """
    height, width = values.shape[:2]
    rows = values.reshape(height, -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[:, :, None], axis=2)[:, :, 8 - depth :]
        lines = [np.packbits(row).tobytes() for row in bits.reshape(height, -1)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + line for line in lines))
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded_exif(orientation: int) -> bytes:
    """EXIF with an orientation, as in JPEG's segment APP1."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def icc(
    space: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ", kind: bytes = b"mntr"
) -> bytes:
    """An ICC profile (version 2) with tags."""
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"", 0x02400000, kind, space, pcs)
    return (head + bytes(12) + b"acsp" + bytes(28) + d50).ljust(128, b"\0") + table + data


def gamma_tag(gamma: float) -> bytes:
    """A curve of ICC."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def xyz_tag(*xyz: float) -> bytes:
    """A colour of ICC."""
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in xyz))


D50 = (0.9642, 1.0, 0.8249)
ADOBE_RGB = icc(
    b"RGB ",
    {
        b"wtpt": xyz_tag(*D50),
        b"rXYZ": xyz_tag(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz_tag(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz_tag(0.14919, 0.06322, 0.74457),
        **{name: gamma_tag(2.19921875) for name in (b"rTRC", b"gTRC", b"bTRC")},
    },
)
GREY_GAMMA_1 = icc(b"GRAY", {b"wtpt": xyz_tag(*D50), b"kTRC": gamma_tag(1.0)})


def cmyk_profile(table: bytes = b"A2B0") -> bytes:
    """A press profile whose inks are weak, so that it differs from no profile."""
    lab = []
    for inks in range(16):
        cyan, magenta, yellow, black = (inks >> n & 1 for n in (3, 2, 1, 0))
        light = 255 - 40 * (cyan + magenta + yellow) - 60 * black
        lab += [light, 128 + 30 * (magenta - cyan), 128 + 40 * (yellow - cyan)]
    identity = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + identity * 4 + bytes(lab) + identity * 3
    return icc(b"CMYK", {table: lut, b"wtpt": xyz_tag(*D50)}, b"Lab ", b"prtr")


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The image as a file; JPEGs with little loss."""
    return encoded(image, kind, **({"quality": 95} if kind == "JPEG" else {}) | options)
