"""Values of a source as text: mapped values in valid UTF-8, all others as JSON metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from curation.media.files.json_items import TOO_MANY_DIGITS, is_of_digits, unique_keys
from curation.media.files.limits import BOXES, FIELD_CHARACTERS, JSON_VALUES

ALTERED = "halves of surrogate pairs, which no encoding has, became replacement characters"
_NO_BOXES = "no boxes of four fractions each"
_PIXELS = (
    "boxes far outside of the image: they must be parts of its width and height, and not pixels"
)
_FARTHEST = 1.0
"""How far from an image a box of a face in it may reach, as a part of its width or height."""
_SHORT_CHARACTERS = 300
_NOT_JSON = object()
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
_JSON_TYPES = (str, int, bool, type(None))


_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    # The mark of UTF-16 is the beginning of this one.
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Byte order marks, which say how a text is encoded."""


def shortened(text: str) -> str:
    """Return a text for people, cut where it is long."""
    return text if len(text) <= _SHORT_CHARACTERS else f"{text[:_SHORT_CHARACTERS]}…"


class BadTextError(ValueError):
    """A value that should be text and is not; the message says what it is."""


def text(value: Any) -> str | None:
    """Return a value as text; None for null, NaN and the empty string.

    Raises:
        BadTextError: the value is bytes that are not valid UTF-8, too long, a list or an object.
    """
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, str | bytes):
        if len(value) > FIELD_CHARACTERS:
            raise BadTextError(f"{len(value):,} characters are more than {FIELD_CHARACTERS:,}")
        return clean(value) if isinstance(value, str) else _decoded(value, "utf-8")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    if isinstance(value, list | tuple | Mapping):
        kind = "an object" if isinstance(value, Mapping) else "a list"
        raise BadTextError(f"{kind} is no text")
    return clean(str(value))


def file_text(content: bytes) -> str:
    """Return the text of a file, in UTF-8 or as its byte order mark says.

    Raises:
        BadTextError: it is no text.
    """
    codec = next((codec for mark, codec in _MARKS.items() if content.startswith(mark)), "utf-8")
    return _decoded(content, codec)


def _decoded(content: bytes, codec: str) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        raise BadTextError(
            f"byte {content[error.start]:#04x} at {error.start} is not {codec.upper()}"
        ) from error


def parse_json(content: str, unique: bool = True) -> Any:
    """Return the value of a JSON text.

    Args:
        content: the text.
        unique: whether an object must not have a key twice.

    Raises:
        ValueError: it is no JSON, holds more than `JSON_VALUES` values or too long a number, or an
            object has a key twice.
    """
    if len(content) > JSON_VALUES and sum(map(content.count, ",:[{")) > JSON_VALUES:
        raise ValueError(f"it holds more than {JSON_VALUES:,} values")
    try:
        return json.loads(content, object_pairs_hook=unique_keys if unique else None)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except ValueError as error:
        if is_of_digits(error):
            raise ValueError(TOO_MANY_DIGITS) from error
        raise


def is_altered(value: Any, converted: str | None) -> bool:
    """Whether a text was changed to be UTF-8 (see `clean`)."""
    return isinstance(value, str) and converted is not None and converted != value


def clean(value: str) -> str:
    """Return `value` with replacement characters in place of lone surrogates, so that it is UTF-8."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def boxes(value: Any) -> str | None:
    """Return boxes within an image as JSON; None for none.

    Args:
        value: boxes (left, top, right, bottom) as fractions of width and height, or JSON text of such
            boxes. They are clipped to the image.

    Raises:
        BadTextError: they are no such boxes, or more than `BOXES`.
    """
    if isinstance(value, str | bytes) and len(value) > FIELD_CHARACTERS:
        raise BadTextError(f"boxes of more than {FIELD_CHARACTERS:,} characters")
    try:
        if isinstance(value, str | bytes):
            value = json.loads(value) if value else None
        if value is not None and len(value) > BOXES:
            raise BadTextError(f"{len(value):,} boxes are more than {BOXES:,}")
        rows = [] if value is None else [[float(v) for v in box] for box in value]
    except BadTextError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadTextError(_NO_BOXES) from error
    if not all(len(box) == 4 and all(math.isfinite(v) for v in box) for box in rows):
        raise BadTextError(_NO_BOXES)
    if any(not -_FARTHEST <= v <= 1 + _FARTHEST for box in rows for v in box):
        # Clipped to the image, nothing would be left of them, and no face would be blurred.
        raise BadTextError(_PIXELS)
    clipped = [[min(max(v, 0.0), 1.0) for v in box] for box in rows]
    if any(box[2] < box[0] or box[3] < box[1] for box in clipped):
        raise BadTextError(_NO_BOXES)
    return _encode(clipped) if clipped else None


def characters(value: Any) -> int:
    """Return how many characters the texts in a value have, without keys: its JSON has no fewer."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(characters, value.values()))
    return sum(map(characters, value)) if isinstance(value, list | tuple) else 0


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
