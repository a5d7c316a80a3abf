"""Messages between a process and its decoder: two lengths, a header in JSON, and bytes.

Nothing is unpickled: what a picture has taken over can at most send wrong values.
"""

from __future__ import annotations

import json
import re
import struct
from typing import Any, NamedTuple

LENGTHS = struct.Struct("<II")
MAX_HEADER_BYTES = 2**20
"""Longer headers of answers are refused."""
Header = dict[str, Any]
_CODE = re.compile(r"[A-Za-z0-9_]{1,64}")


class Message(NamedTuple):
    """A message: a header, and the bytes of a picture."""

    header: Header
    content: bytes


def reason_of(value: Any) -> str:
    """Return the reason in an answer; one that is no code comes from a process that was taken over."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else "decoder_died"


def packed(message: Message) -> list[bytes]:
    """Return the parts of a message, in their order."""
    header = json.dumps(message.header).encode()
    return [LENGTHS.pack(len(header), len(message.content)) + header, message.content]


def unpacked(header: bytes, content: bytes) -> Message:
    """Return a message.

    Raises:
        ValueError: the header is not a JSON object.
    """
    try:
        values = json.loads(header)
    except RecursionError as error:
        raise ValueError("the header is nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError("the header is no object")
    return Message(values, content)
