"""Values of a source as text: mapped values in valid UTF-8, all others as JSON metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_NOT_JSON = object()
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
_JSON_TYPES = (str, int, bool, type(None))


class BadTextError(ValueError):
    """Bytes that should be text but are not valid UTF-8."""


def text(value: Any) -> str | None:
    """Return a value as text; None for null, NaN and the empty string.

    Raises:
        BadTextError: the value is bytes that are not valid UTF-8.
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
    """Return `value` with replacement characters in place of lone surrogates, so that it is UTF-8."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def boxes(value: Any) -> tuple[str | None, bool]:
    """Return boxes within an image as JSON (None for none), and whether the value is invalid.

    Args:
        value: boxes (left, top, right, bottom) as fractions of width and height, or JSON text of such
            boxes. They are clipped to the image.
    """
    try:
        if isinstance(value, str | bytes):
            value = json.loads(value) if value else None
        rows = [] if value is None else [[float(v) for v in box] for box in value]
    except (TypeError, ValueError, RecursionError):
        return None, True
    if not all(len(box) == 4 and all(math.isfinite(v) for v in box) for box in rows):
        return None, True
    clipped = [[min(max(v, 0.0), 1.0) for v in box] for box in rows]
    if any(box[2] < box[0] or box[3] < box[1] for box in clipped):
        return None, True
    return (_encode(clipped) if clipped else None), False


def as_json(values: Mapping[str, Any]) -> str | None:
    """Return values by column as one JSON object with sorted keys; None if there are none.

    Bytes are left out, NaN and infinities become null, and values of other types become text.
    """
    jsonable = {}
    for name, value in values.items():
        converted = value if isinstance(value, _JSON_TYPES) else _jsonable(value)
        if converted is not _NOT_JSON:
            jsonable[name] = converted
    if not jsonable:
        return None
    return clean(_encode(jsonable))


def _jsonable(value: Any) -> Any:
    if isinstance(value, _JSON_TYPES):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _NOT_JSON
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        items = {str(k): _jsonable(v) for k, v in value.items()}
        return {k: v for k, v in items.items() if v is not _NOT_JSON}
    if isinstance(value, list | tuple):
        return [v for v in map(_jsonable, value) if v is not _NOT_JSON]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
