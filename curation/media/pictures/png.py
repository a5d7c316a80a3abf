"""PNG files, reduced to what their pixels need.

Browsers (libpng) ignore damage of chunks that pixels do not need; Pillow refuses the file. Pillow also
unpacks all text, and refuses a file with more than a mebibyte of it. So only the chunks that decide the
pixels are passed on.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from curation.media.pictures.coded_colours import CURVES_OF_PNG, coded_profile, is_known
from curation.media.pictures.colours import MAX_PROFILE_BYTES
from curation.media.pictures.matrix_profile import SRGB, SRGB_CURVE, Primaries, matrix_profile
from curation.media.web.fetch_error import FetchError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT")
_FIRST = {b"IHDR": 0, b"eXIf": 1}
_FRAME_BYTES, _FRAME_NUMBER_BYTES = 26, 4
_COLOURS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
_HEADER_AT = 16
_HEADER_BYTES = 13
_COLOUR_AT, _GREYS, _RGB, _PALETTE = 25, (0, 4), 2, 3
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Left, top, and steps to the right and down, of each pass.
_ONE_PASS = ((0, 0, 1, 1),)
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PART_BYTES = 2**20
_Chunk = tuple[bytes, memoryview]
"""Name and data."""
_USUAL_GAMMA = 1 / 2.2
_GAMMA_TOLERANCE = 0.05
"""libpng takes gammas that differ by less for the same."""


@dataclass(frozen=True)
class Png:
    """A PNG file with only the chunks that decide its pixels.

    Attributes:
        content: the file. If browsers show an animation without the default image, its first frame.
        profile: the ICC profile of its colours; None for sRGB.
        has_trns: whether it has the chunk tRNS.
        page: width and height of the image.
        frame: left, top, right and bottom of that frame; None for the default image.
    """

    content: bytes
    profile: bytes | None
    has_trns: bool
    page: tuple[int, int]
    frame: tuple[int, int, int, int] | None = None

    @property
    def is_grey(self) -> bool:
        """Whether its pixels are grey; Pillow gives those of 16 bits with transparency as RGBA."""
        return self.content[_COLOUR_AT] in _GREYS

    @property
    def alpha(self) -> npt.NDArray[np.uint8] | None:
        """Transparency, (height, width), if one colour of 16 bits is transparent; else None.

        Pillow cuts such pixels to 8 bits before it compares them.
        """
        *_, depth, colour = struct.unpack_from(">IIBB", self.content, _HEADER_AT)
        if (depth, colour) != (16, _RGB) or not self.has_trns:
            return None
        values = cv2.imdecode(np.frombuffer(self.content, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None:
            return None
        alpha: npt.NDArray[np.uint8] = np.where(values[:, :, 3] > 0, 255, 0).astype(np.uint8)
        return alpha

    def is_short(self) -> bool:
        """Whether the pixels end early although their data ends properly; Pillow shows zeros then."""
        width, height, depth, colour, *_, interlaced = struct.unpack_from(
            ">IIBBBBB", self.content, _HEADER_AT
        )
        bits, missing = depth * _CHANNELS.get(colour, 1), 0
        for left, top, right, down in _PASSES if interlaced else _ONE_PASS:
            columns, rows = -(-(width - left) // right), -(-(height - top) // down)
            missing += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
        unpacker = zlib.decompressobj()
        packed = b"".join(data for name, data in _chunks(self.content) if name == b"IDAT")
        while missing > 0 and not unpacker.eof:
            try:
                part = unpacker.decompress(packed, _PART_BYTES)
            except zlib.error:
                # Pillow has shown zeros for the damage and what follows it.
                break
            packed, missing = unpacker.unconsumed_tail, missing - len(part)
            if not part and not packed:
                break
        return missing > 0


def read_png(content: bytes) -> Png:
    """Return the essential parts of a PNG file.

    Raises:
        FetchError: `truncated`, or `undecodable` for a wrong checksum of pixels.
    """
    chunks = list(_chunks(content))
    names = [name for name, _ in chunks]
    if b"IDAT" not in names or names[0] != b"IHDR" or len(chunks[0][1]) != _HEADER_BYTES:
        raise FetchError("undecodable")
    before = names[: names.index(b"IDAT")]
    if chunks[0][1][9] == _PALETTE and b"PLTE" not in before:
        raise FetchError("undecodable")
    header = reversed(chunks[: len(before)])
    colours = {name: bytes(data) for name, data in header if name in _COLOURS}
    width, height = struct.unpack_from(">II", chunks[0][1])
    frame = None
    # Usually the default image is the first frame, so the animation is not needed.
    if b"acTL" in before and b"fcTL" not in before:
        frame, chunks = _first_frame(chunks, width, height)
    parts: list[bytes | memoryview] = [_SIGNATURE]
    # EXIF may follow the pixels, where Pillow does not see it in time.
    for name, data in sorted(chunks, key=lambda chunk: _FIRST.get(chunk[0], len(_FIRST))):
        if name in _PIXELS:
            data = _scaled_trns(chunks[0][1], data) if name == b"tRNS" else data
            check = zlib.crc32(data, zlib.crc32(name))
            parts += [struct.pack(">I4s", len(data), name), data, struct.pack(">I", check)]
    kept = b"".join([*parts, _END])
    return Png(kept, _profile(colours), b"tRNS" in names, (width, height), frame)


def _first_frame(
    chunks: list[_Chunk], width: int, height: int
) -> tuple[tuple[int, int, int, int] | None, list[_Chunk]]:
    """Return where the first frame of an animation stands, and the chunks with it as their image.

    Without such a frame, the default image is shown.

    Args:
        chunks: of the file.
        width: of the image.
        height: of the image.
    """
    names = [name for name, _ in chunks]
    start = names.index(b"fcTL") if b"fcTL" in names else len(names)
    end = names.index(b"fcTL", start + 1) if b"fcTL" in names[start + 1 :] else len(names)
    has_frames = any(chunks[names.index(b"acTL")][1][:4])
    pixels = [
        (b"IDAT", data[_FRAME_NUMBER_BYTES:]) for name, data in chunks[start:end] if name == b"fdAT"
    ]
    if not pixels or not has_frames or len(chunks[start][1]) != _FRAME_BYTES:
        return None, chunks
    columns, rows, left, top = struct.unpack_from(">4xIIII", chunks[start][1])
    if left + columns > width or top + rows > height:
        return None, chunks
    header = memoryview(struct.pack(">II", columns, rows) + chunks[0][1][8:])
    others = [chunk for chunk in chunks[1:] if chunk[0] != b"IDAT"]
    return (left, top, left + columns, top + rows), [(b"IHDR", header), *others, *pixels]


def _chunks(content: bytes) -> Iterator[_Chunk]:
    """Yield name and data of each sound chunk before the end."""
    view, at, has_pixels = memoryview(content), len(_SIGNATURE), False
    while at + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        end = at + 8 + size
        if name == b"IEND":
            return
        if end + 4 > len(content):
            # What follows the pixels may be missing, but for more pixels.
            if has_pixels and name != b"IDAT":
                return
            raise FetchError("truncated")
        is_sound = zlib.crc32(view[at + 4 : end]) == int.from_bytes(content[end : end + 4])
        is_critical = not name[0] & 0x20
        if not is_sound and is_critical:
            raise FetchError("undecodable")
        if is_sound:
            has_pixels |= name == b"IDAT"
            yield name, view[at + 8 : end]
        at = end + 4
    if not has_pixels:
        raise FetchError("truncated")


def _scaled_trns(header: memoryview, trns: memoryview) -> memoryview:
    """Return the transparent grey on the scale to which Pillow widens pixels of two or four bits."""
    depth, colour = header[8], header[9]
    if colour != 0 or depth not in (2, 4) or len(trns) < 2:
        return trns
    level = int.from_bytes(trns[:2]) & (2**depth - 1)
    return memoryview(struct.pack(">H", level * 255 // (2**depth - 1)))


def _profile(colours: dict[bytes, bytes]) -> bytes | None:
    """Return the profile by the chunk that goes first in PNG's third edition and in browsers."""
    cicp = colours.get(b"cICP", b"")
    if len(cicp) >= 2 and is_known(cicp[0], cicp[1], CURVES_OF_PNG):
        return coded_profile(cicp[0], cicp[1], CURVES_OF_PNG)
    if b"iCCP" in colours:
        profile = _unpacked(colours[b"iCCP"])
        if profile is not None:
            return profile
    if b"sRGB" in colours:
        return None
    return _by_numbers(colours.get(b"gAMA", b""), colours.get(b"cHRM", b""))


def _unpacked(iccp: bytes) -> bytes | None:
    _, _, packed = iccp.partition(b"\0")
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed[1:], MAX_PROFILE_BYTES)
        return profile if unpacker.eof and profile[36:40] == b"acsp" else None
    except zlib.error:
        return None


def _by_numbers(gama: bytes, chrm: bytes) -> bytes | None:
    """Return the profile of gAMA and cHRM; None if they are absent, senseless, or those of sRGB."""
    curve: tuple[float, ...] = SRGB_CURVE
    if len(gama) >= 4 and (gamma := int.from_bytes(gama[:4]) / 1e5):
        is_usual = abs(gamma / _USUAL_GAMMA - 1) < _GAMMA_TOLERANCE
        curve = SRGB_CURVE if is_usual else (1 / gamma,)
    primaries = SRGB
    if len(chrm) >= 32:
        x = [value / 1e5 for value in struct.unpack(">8I", chrm[:32])]
        primaries = Primaries((x[0], x[1]), (x[2], x[3]), (x[4], x[5]), (x[6], x[7]))
    if primaries == SRGB and curve == SRGB_CURVE:
        return None
    try:
        return matrix_profile(primaries, curve)
    except ValueError:
        return None
