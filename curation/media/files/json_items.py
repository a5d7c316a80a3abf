"""The items of the arrays of one JSON object, however large it is: one item is held at a time."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from curation.media.files.limits import JSON_FILE_BYTES, MIB

_BLOCK_BYTES = MIB
_SPACE = re.compile(r"[ \t\r\n]*")
_MARK = re.compile(r'["\[\]{}\\]')
_TOO_LONG = f"it is no JSON of at most {JSON_FILE_BYTES:,} characters"
_CUT = "it ends before its end"
_UTF16 = "it is encoded in UTF-16 or UTF-32; convert it: iconv -f UTF-16 -t UTF-8"
_NESTED = '["{'
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_NO_UTF8 = re.compile("[\udc80-\udcff]")
"""What decoding makes of bytes that are not UTF-8: nothing in UTF-8 becomes one of these."""
TOO_MANY_DIGITS = "it holds a number of thousands of digits"
_SHOWN_CHARACTERS = 300
_SCALAR = re.compile(r"[^,\]}\s]*")


def is_of_digits(error: ValueError) -> bool:
    """Whether an error of reading JSON is Python's refusal of a very long number."""
    return "integer string conversion" in str(error)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON by its keys and values.

    Raises:
        ValueError: it has a key twice, of which one would be lost.
    """
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:_SHOWN_CHARACTERS]!r} stands twice in one object")
    return values


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return TOO_MANY_DIGITS if is_of_digits(error) else str(error)


_decoder = json.JSONDecoder(object_pairs_hook=unique_keys)


class DamagedJsonError(ValueError):
    """A file that cannot be read further."""


class JsonArrayError(DamagedJsonError):
    """A file that holds one array, and no object."""


class JsonItem(NamedTuple):
    """One item.

    Attributes:
        array: key of its array.
        number: its number within the array.
        value: the item; None if it cannot be read.
        problem: why it cannot be read.
    """

    array: str
    number: int
    value: Any
    problem: str | None = None


def json_items(stream: Any) -> Iterator[JsonItem]:
    """Yield the items of all arrays that are values of the object in a file, without its other values.

    Args:
        stream: of bytes in UTF-8.

    Raises:
        DamagedJsonError: it holds no object, is damaged, ends before its end, or goes on after it.
    """
    return _Reader(stream).items()


class _Reader:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # A byte that is not UTF-8 costs its item, and not the file.
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._text, self._at, self._is_end = "", 0, False
        self._is_utf8, self._is_start = True, True

    def items(self) -> Iterator[JsonItem]:
        if self._next() == "[":
            raise JsonArrayError("it is one JSON array")
        self._expect("{", "it does not hold one JSON object")
        if self._next() == "}":
            self._at += 1
            self._check_end()
            return
        while True:
            key = self._key()
            self._expect(":", f"no colon follows the key {key[:40]!r}")
            if self._next() == "[":
                yield from self._array(key)
            else:
                self._item(key, 0)
            if self._follows("}"):
                self._check_end()
                return

    def _check_end(self) -> None:
        if not self._is_at_end():
            raise DamagedJsonError("more follows the end of its object")

    def _key(self) -> str:
        if self._next() != '"':
            raise DamagedJsonError(f"{self._next()!r} stands where a key should")
        try:
            return str(self._value())
        except ValueError as error:
            raise DamagedJsonError(f"a key cannot be read ({error})") from error

    def _array(self, key: str) -> Iterator[JsonItem]:
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        number = 0
        while True:
            yield self._item(key, number)
            number += 1
            if self._follows("]"):
                return

    def _follows(self, end: str) -> bool:
        """Whether the end follows; otherwise a comma does."""
        mark = self._next()
        self._at += 1
        if mark not in (end, ","):
            raise DamagedJsonError(f"{mark!r} stands where a comma or {end!r} should")
        return mark == end

    def _expect(self, mark: str, problem: str) -> None:
        if self._next() != mark:
            raise DamagedJsonError(problem)
        self._at += 1

    def _next(self) -> str:
        """Return the next character that is no space, without reading past it."""
        if self._is_at_end():
            raise DamagedJsonError(_CUT)
        return self._text[self._at]

    def _is_at_end(self) -> bool:
        """Whether nothing but spaces, which are passed, is left."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return False
            if not self._more():
                return True

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._is_end:
            return False
        block = self._stream.read(_BLOCK_BYTES)
        self._is_end = not block
        if self._is_start and bytes(block[:2]) in _UTF16_MARKS:
            raise DamagedJsonError(_UTF16)
        self._is_start = False
        text = self._decode(bytes(block), self._is_end)
        if self._is_utf8 and not text.isascii():
            self._is_utf8 = not _NO_UTF8.search(text)
        self._text = self._text[self._at :] + text
        self._at = 0
        return not self._is_end

    def _item(self, key: str, number: int) -> JsonItem:
        start = self._next()
        try:
            return JsonItem(key, number, self._value())
        except DamagedJsonError:
            raise
        except (ValueError, RecursionError) as error:
            if start not in _NESTED:
                raise DamagedJsonError(str(error)) from error
            self._skip()
            return JsonItem(key, number, None, _reason(error))

    def _value(self) -> Any:
        """Read one value.

        Raises:
            ValueError: it is no JSON, or too long. Nothing of it is passed.
            DamagedJsonError: the file ends within it.
        """
        if self._next() not in _NESTED:
            self._read_scalar()
        while True:
            try:
                value, end = _decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if len(self._text) - self._at > JSON_FILE_BYTES:
                    raise ValueError(_TOO_LONG) from None
                if not self._more():
                    raise
                continue
            if end - self._at > JSON_FILE_BYTES:
                raise ValueError(_TOO_LONG)
            self._check_utf8(end)
            self._at = end
            return value

    def _check_utf8(self, end: int) -> None:
        odd = None if self._is_utf8 else _NO_UTF8.search(self._text, self._at, end)
        if odd:
            raise ValueError(f"it is not UTF-8 (byte {ord(odd[0]) - 0xDC00:#04x})")

    def _read_scalar(self) -> None:
        """Read on to what follows a number or a word: without it, nothing shows that it is whole."""
        while (match := _SCALAR.match(self._text, self._at)) and match.end() == len(self._text):
            if match.end() - self._at > JSON_FILE_BYTES:
                raise DamagedJsonError(_TOO_LONG)
            if not self._more():
                raise DamagedJsonError(_CUT)

    def _skip(self) -> None:
        """Pass a text, a list or an object that cannot be read."""
        depth, in_text = 0, False
        while True:
            match = _MARK.search(self._text, self._at)
            if match is None:
                self._at = len(self._text)
                if not self._more():
                    raise DamagedJsonError(_CUT)
                continue
            self._at = match.end()
            mark = match[0]
            if mark == "\\":
                self._pass_one()
            elif mark == '"':
                in_text = not in_text
            elif not in_text:
                depth += 1 if mark in "[{" else -1
            if depth <= 0 and not in_text and mark != "\\":
                return

    def _pass_one(self) -> None:
        if self._at >= len(self._text) and not self._more():
            raise DamagedJsonError(_CUT)
        self._at += 1
