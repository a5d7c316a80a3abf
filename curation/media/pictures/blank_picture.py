"""A picture that no stranger wrote, with which a decoder is tried."""

from __future__ import annotations

_SIDE = 32
_COMMENT = b"\xff\xfe\x00\x06c2pa"
"""What looks like a manifest of C2PA, so that its library is loaded where a recipe needs it."""


def blank_picture() -> bytes:
    """Return a grey JPEG of 32 x 32 pixels, which no recipe refuses for its size."""
    import numpy as np
    import simplejpeg

    grey = np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    encoded = bytes(simplejpeg.encode_jpeg(grey))
    return encoded[:2] + _COMMENT + encoded[2:]
