"""Values of a source's columns as text: valid UTF-8, and JSON for what is only carried along."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_SKIP = object()
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
_PLAIN = (str, int, bool, type(None))


class BadTextError(ValueError):
    """Bytes that should be text and are not UTF-8."""


def text(value: Any) -> str | None:
    """Return a value as text; None for nothing and for the empty string.

    Raises:
        BadTextError: bytes that are not UTF-8.
    """
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise BadTextError(str(error)) from error
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return clean(value if isinstance(value, str) else str(value))


def clean(value: str) -> str:
    """Return `value` with a replacement character for every half of a surrogate pair."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def boxes(value: Any) -> tuple[str | None, bool]:
    """Return boxes within a picture as JSON, and whether the value is none of these.

    A box is left, top, right and bottom in parts of width and height, 0 to 1; what reaches beyond the
    picture is cut. Text is read as JSON.
    """
    try:
        if isinstance(value, str | bytes):
            value = json.loads(value) if value else None
        rows = [] if value is None else [[float(v) for v in box] for box in value]
    except (TypeError, ValueError, RecursionError):
        return None, True
    if not all(len(box) == 4 and all(math.isfinite(v) for v in box) for box in rows):
        return None, True
    cut = [[min(max(v, 0.0), 1.0) for v in box] for box in rows]
    if any(box[2] < box[0] or box[3] < box[1] for box in cut):
        return None, True
    return (_encode(cut) if cut else None), False


def as_json(values: Mapping[str, Any]) -> str | None:
    """Return the columns as one JSON object with sorted keys; None where there are none.

    Bytes are left out, NaN and infinities are null, what JSON does not know is its text.
    """
    plain = {}
    for name, value in values.items():
        found = value if isinstance(value, _PLAIN) else _jsonable(value)
        if found is not _SKIP:
            plain[name] = found
    if not plain:
        return None
    return clean(_encode(plain))


def _jsonable(value: Any) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _SKIP
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        found = {str(k): _jsonable(v) for k, v in value.items()}
        return {k: v for k, v in found.items() if v is not _SKIP}
    if isinstance(value, list | tuple):
        return [v for v in map(_jsonable, value) if v is not _SKIP]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
