"""JPEG files: whether they are sound, and their pixels.

libjpeg shows what there is of a damaged file: the rest is grey. Its warnings tell, so each file is
decoded strictly, by simplejpeg. A file that fails is tried again without the parts that pixels do not
need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg

from curation.media.pictures.pixels import Pixels
from curation.media.web.fetch_error import FetchError

_APP2, _ICC = 0xE2, b"ICC_PROFILE\0"
_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_ADOBE = 0xEE
_PIXEL_SEGMENTS = FRAMES | {0xC4, 0xCC, 0xDB, 0xDD, _ADOBE}
_COEFFICIENTS = 64
# A progressive JPEG with very many scans takes minutes to decode; encoders write about ten scans. Each
# scan may touch every pixel, so scans times pixels are limited too, to about twenty seconds of work.
_MAX_SCANS = 500
MANY_SCANS = 16
_MAX_SCANNED_PIXELS = 2_000_000_000
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x(..)")
_FEW_BYTES = 4
_LONG_PADDING = 8
_HEAD_BYTES = 2**17


class Segment(NamedTuple):
    """A segment of a JPEG, from its marker on."""

    marker: int
    start: int
    end: int


class SoundJpeg(NamedTuple):
    """A JPEG that decodes without a warning.

    Attributes:
        content: the file; without parts that pixels do not need, if it has warnings with them.
        pixels: uint8 of shape (height, width, 3), or (height, width) if it is grey; None if only
            Pillow decodes its colours.
    """

    content: bytes
    pixels: Pixels | None


def read_jpeg(content: bytes, size: tuple[int, int]) -> SoundJpeg:
    """Decode a JPEG strictly.

    Args:
        content: the file.
        size: width and height that were checked. libjpeg may read another header than Pillow.

    Raises:
        FetchError: `truncated`, `undecodable` or `decoder_memory`.
    """
    try:
        return _strictly(content, size)
    except (ValueError, KeyError):
        content = essential(content)
    try:
        return _strictly(content, size)
    except (ValueError, KeyError) as error:
        message = str(error)
        if _is_sampling(error):
            return SoundJpeg(content, None)
        if _is_padding(content, message) or _repeats_a_scan(content, message):
            return SoundJpeg(content, _pixels(content, size, strict=False))
        if "memory" in message.lower():
            raise FetchError("decoder_memory") from error
        is_cut = "remature end" in message or "SOI" in message
        raise FetchError("truncated" if is_cut else "undecodable") from error


def _strictly(content: bytes, size: tuple[int, int]) -> SoundJpeg:
    pixels = _pixels(content, size, strict=True)
    if not _is_complete(content):
        raise FetchError("truncated")
    return SoundJpeg(content, pixels)


def _pixels(content: bytes, size: tuple[int, int], strict: bool) -> Pixels | None:
    height, width, space, _ = simplejpeg.decode_jpeg_header(content, strict=strict)
    if (width, height) != size:
        raise FetchError("undecodable")
    target = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}.get(space, "CMYK")
    pixels: Pixels = simplejpeg.decode_jpeg(content, target, strict=strict)
    if target == "CMYK":
        return None
    return pixels[:, :, 0] if target == "GRAY" else pixels


def _is_sampling(error: Exception) -> bool:
    """Whether only the sampling of colours, or the number of bits, is unknown to TurboJPEG."""
    return isinstance(error, KeyError) or "subsampling" in str(error)


def _is_padding(content: bytes, message: str) -> bool:
    """Whether the only warning is about bytes between a complete scan and the next marker.

    Cameras pad scans. But zeros within a scan decode to blocks, so that the scan ends early and its
    rest is left over; then what was left over begins with zeros that were decoded.
    """
    match = _EXTRANEOUS.search(message)
    if match is None:
        return False
    count, end = int(match[1]), content.find(_EOI, first_scan(content))
    if match[2] != "d9" or end < 0:
        return count <= _FEW_BYTES
    start = end - count
    rest, before = content[start:end], content[max(0, start - _LONG_PADDING) : start]
    is_constant = rest == rest[:1] * count
    return (count <= _FEW_BYTES or is_constant) and before != rest[:1] * _LONG_PADDING


def _repeats_a_scan(content: bytes, message: str) -> bool:
    """Whether a progressive file gives bits twice, or in an unusual order, but gives all of them."""
    return "Inconsistent progression" in message and _is_complete(content)


def check_scans(content: bytes, pixels: int) -> None:
    """Raise FetchError for a JPEG that takes too long to decode, by its scans and its size."""
    scans = scans_of(content)
    is_slow = scans > MANY_SCANS and scans * pixels > _MAX_SCANNED_PIXELS
    if scans > _MAX_SCANS or is_slow:
        raise FetchError("undecodable")


def scans_of(content: bytes) -> int:
    """Return the number of scans of a JPEG.

    Raises:
        FetchError: `truncated`: it has none.
    """
    return content.count(_SOS, first_scan(content))


def essential(content: bytes) -> bytes:
    """Return a JPEG with only the segments that pixels need, one after the other, and with an end.

    The header of the first scan gets the parameters that it must have.

    Raises:
        FetchError: the file has no frame, or no scan.
    """
    parts, frame = [_SOI], 0
    for marker, start, end in segments(content):
        if marker == _SOS[1]:
            scan = content[end:]
            parts += [_scan_header(content[start:end], frame), scan]
            if _EOI not in scan:
                parts.append(_EOI)
        elif marker in _PIXEL_SEGMENTS:
            frame = marker if marker in FRAMES else frame
            parts.append(content[start:end])
    if not frame:
        raise FetchError("undecodable")
    return b"".join(parts)


def _scan_header(header: bytes, frame: int) -> bytes:
    """Return the header of a scan; a sequential frame has all coefficients in one scan."""
    return header if frame in PROGRESSIVE else header[:-3] + bytes((0, _COEFFICIENTS - 1, 0))


def first_scan(content: bytes) -> int:
    """Return the offset of the first scan, after all segments, which may hold a thumbnail."""
    *_, last = segments(content)
    return last.start


def segment_at(content: bytes, at: int) -> Segment:
    """Return the segment at an offset; an end marker has no length, so its end means nothing."""
    end = at + 2 + max(2, int.from_bytes(content[at + 2 : at + 4]))
    return Segment(content[at + 1], at, end)


def segments(content: bytes) -> Iterator[Segment]:
    """Yield the segments up to the first header of a scan, without what lies between them."""
    at = 2
    while (at := content.find(b"\xff", at)) >= 0 and at + 4 <= len(content):
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:
            at += 2
        else:
            segment = segment_at(content, at)
            yield segment
            if marker == _SOS[1]:
                return
            at = segment.end
    raise FetchError("truncated")


def profile_in_jpeg(content: bytes) -> bytes | None:
    """Return the ICC profile of a JPEG; None if it has none, or not all of its parts.

    Of two parts of one number, as where a program has added a second profile, the first counts, as in
    browsers. Pillow puts them together.
    """
    parts: dict[int, bytes] = {}
    count = 0
    for marker, start, end in segments(content):
        data = content[start + 4 : end] if marker == _APP2 else b""
        if data.startswith(_ICC) and len(data) > len(_ICC) + 2:
            number, count = data[len(_ICC)], count or data[len(_ICC) + 1]
            parts.setdefault(number, data[len(_ICC) + 2 :])
    is_whole = count > 0 and all(number in parts for number in range(1, count + 1))
    return b"".join(parts[number] for number in range(1, count + 1)) if is_whole else None


def frame_size(content: bytes) -> tuple[int, int] | None:
    """Return the width and height that a JPEG states near its beginning; None if it states none."""
    if not content.startswith(_SOI):
        return None
    try:
        frame = next(s for s in segments(content[:_HEAD_BYTES]) if s.marker in FRAMES)
    except (FetchError, StopIteration):
        return None
    height, width = (
        content[frame.start + 5 : frame.start + 7],
        content[frame.start + 7 : frame.start + 9],
    )
    return int.from_bytes(width), int.from_bytes(height)


def _is_complete(content: bytes) -> bool:
    """Whether the scans give every coefficient of every component with all its bits.

    libjpeg gives no warning for a file that lacks whole scans.
    """
    *_, (_, start, _) = before = list(segments(content))
    frame = next((s for s in before if s.marker in FRAMES), None)
    if frame is None:
        return False
    components = content[frame.start + 10 : frame.end : 3]
    is_progressive = frame.marker in PROGRESSIVE
    if not is_progressive and content[start + 4] == len(components):
        return True
    missing = {component: np.full(_COEFFICIENTS, -1) for component in components}
    end = content.find(_EOI, start)
    while 0 <= start < end:
        size = content[start + 4]
        if int.from_bytes(content[start + 2 : start + 4]) == 6 + 2 * size:
            first, last, bits = content[start + 5 + 2 * size : start + 8 + 2 * size]
            for component in content[start + 5 : start + 5 + 2 * size : 2]:
                if component in missing:
                    span = slice(first, last + 1) if is_progressive else slice(None)
                    missing[component][span] = bits & 15 if is_progressive else 0
        start = content.find(_SOS, start + 2)
    return all((bits == 0).all() for bits in missing.values())
