"""Animations in JPEG XL, of which its plug-in gives the last frame."""

from __future__ import annotations

from curation.media.pictures.colour_boxes import boxes

_CODESTREAM = b"\xff\x0a"
_HEADER_BYTES = 64
_PARTS = {b"jxlc": 0, b"jxlp": 4}
"""Boxes that the image begins in, and where in their data."""
_LARGE_SIDE_BITS = (9, 13, 18, 30)
_SMALL_SIDE_BITS, _RATIO_BITS, _ORIENTATION_BITS = 5, 3, 3


class _Bits:
    """Reads numbers from the lowest bit of each byte on."""

    def __init__(self, content: bytes) -> None:
        self._left = int.from_bytes(content, "little")

    def take(self, count: int = 1) -> int:
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        return value


def is_animated(content: bytes) -> bool:
    """Whether a JPEG XL says that it is an animation (ISO/IEC 18181-1, annex D)."""
    bits = _Bits(_header(content))
    _pass_size(bits)
    has_defaults_only = bits.take()
    if has_defaults_only or not bits.take():
        return False
    bits.take(_ORIENTATION_BITS)
    if bits.take():
        _pass_size(bits)
    has_preview = bits.take()
    return not has_preview and bool(bits.take())


def _header(content: bytes) -> bytes:
    """Return the first bytes of the image after its mark."""
    if not content.startswith(_CODESTREAM):
        parts = (data[_PARTS[kind] :] for kind, data in boxes(content) if kind in _PARTS)
        content = next(parts, b"")
    return content[len(_CODESTREAM) : len(_CODESTREAM) + _HEADER_BYTES]


def _pass_size(bits: _Bits) -> None:
    is_small = bits.take()
    _pass_side(bits, is_small)
    if not bits.take(_RATIO_BITS):
        _pass_side(bits, is_small)


def _pass_side(bits: _Bits, is_small: int) -> None:
    bits.take(_SMALL_SIDE_BITS if is_small else _LARGE_SIDE_BITS[bits.take(2)])
