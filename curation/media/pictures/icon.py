"""Icons: which of their images is shown, and which of its bytes say what is transparent."""

from __future__ import annotations

import struct
from typing import NamedTuple

_HEAD, _ENTRY, _DIB = struct.Struct("<HHH"), struct.Struct("<BBBBHHII"), struct.Struct("<IiiHHI")
_WIDTH_OF_ZERO, _COLOURS_OF_ZERO = 256, 256
_PLAIN_HEADER, _MASKS, _MASKS_BYTES = 40, 3, 12


class _Entry(NamedTuple):
    """An image of an icon, as the directory has it."""

    width: int
    height: int
    colours: int
    reserved: int
    planes: int
    bits: int
    size: int
    offset: int

    @property
    def rank(self) -> tuple[int, int]:
        """Browsers show the largest, and of several the one with the most bits."""
        colours = self.colours or _COLOURS_OF_ZERO
        sides = (self.width or _WIDTH_OF_ZERO, self.height or _WIDTH_OF_ZERO)
        return sides[0] * sides[1], self.bits or (colours - 1).bit_length()


def shown_image(content: bytes) -> bytes:
    """Return an icon with only the image that browsers show; one that is damaged, as it is.

    Of images of one size, Pillow takes the one with the fewest colours. It also takes the directory's
    word for whether there is transparency of eight bits, and bytes that nobody wrote for it.

    Args:
        content: the file, not trusted.
    """
    try:
        count = _HEAD.unpack_from(content)[2]
        directory = content[_HEAD.size : _HEAD.size + count * _ENTRY.size]
        entry = max(map(_Entry._make, _ENTRY.iter_unpack(directory)), key=lambda each: each.rank)
        end = entry.offset + entry.size
        if end > len(content):
            return content
        image = content[entry.offset : end]
        is_png = image.startswith(b"\x89PNG")
        bits, image = (entry.bits, image) if is_png else _bits_and_mask(image)
    except (struct.error, ValueError):
        return content
    at = _HEAD.size + _ENTRY.size
    head = _ENTRY.pack(*entry._replace(bits=bits, size=len(image), offset=at))
    return _HEAD.pack(0, 1, 1) + head + image


def _bits_and_mask(image: bytes) -> tuple[int, bytes]:
    """Return the bits of a pixel, 32 only if they hold its transparency; and the image with a mask."""
    size, width, height, _, bits, compression = _DIB.unpack_from(image)
    if size < _PLAIN_HEADER or bits != 32:
        return min(bits, 24), image
    start = size + (_MASKS_BYTES if (size, compression) == (_PLAIN_HEADER, _MASKS) else 0)
    rows = abs(height) // 2
    end = start + 4 * width * rows
    if width < 1 or image[start + 3 : end : 4].strip(b"\0"):
        return bits, image
    mask_bytes = -(-width // 32) * 4 * rows
    missing = end + mask_bytes - len(image)
    return 24, image + bytes(missing) if len(image) == end and missing <= len(image) else image
