"""How the files of pictures begin."""

from __future__ import annotations

import re

HEAD_BYTES = 32
"""Bytes of a file that `is_picture` needs."""
_HEADS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM....\x00\x00\x00\x00"
    rb"|II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"
    rb"|....ftyp(?:avi[fs]|hei[cxms]|hev[cx]|mif1|msf1)"
    rb"|\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"
    rb"|\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n"
    # An icon has at least one picture, and a byte that must be zero after its size and colours.
    rb"|\x00\x00\x01\x00[\x01-\xff]\x00...\x00"
    # Texts may begin with P and a digit, but not with the lines of PPM.
    rb"|P[1-6]\n\d{1,5}[ \n]\d{1,5}\n",
    re.DOTALL,
)


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a picture, whatever its name."""
    return _HEADS.match(head) is not None
