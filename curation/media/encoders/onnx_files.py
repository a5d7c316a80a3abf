"""The files that an ONNX graph names: tensors may lie in other files, whose paths the graph gives.

The package onnx is not needed for it: the few messages around tensors are walked by their field numbers
(onnx.proto of ONNX 1.19; numbers never change).
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from pathlib import PurePosixPath

from curation.errors import RecipeError

WRITE_AGAIN = "Export the model again, or download the file again"
MAX_DEPTH = 64
"""Graphs within graphs."""
MAX_FILES = 10_000
MAX_PATH, MAX_NAME = 1000, 255
"""Characters of a path, and bytes of the name of a file or of a folder around it."""
MAX_FIELDS = 20_000_000
"""Fields of a graph that are looked at: seconds."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TENSOR = "tensor"
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: "entry"},
}
"""The messages within a message that may hold tensors, by field number."""


class _BadGraphError(ValueError):
    """The bytes are no message."""


def external_files(content: bytes | mmap, shown: str) -> list[str]:
    """Return the paths of all files with tensors that a graph names, in order.

    Args:
        content: the file of the graph.
        shown: its path, for messages.

    Raises:
        RecipeError: it is no ONNX graph, or a path leads out of its folder.
    """
    try:
        entries = list(_Walk().entries(memoryview(content), "model", 0))
    except (_BadGraphError, IndexError) as error:
        raise RecipeError(
            f"{shown!r} is not an ONNX graph: {error or 'it ends too early'}", fix=WRITE_AGAIN
        ) from None
    names = sorted({value for key, value in entries if key == "location"})
    for name in names:
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or "\\" in name
            or "\0" in name
            or not path.name
            or len(name) > MAX_PATH
            or any(len(part.encode()) > MAX_NAME for part in path.parts)
        ):
            raise RecipeError(
                f"{shown!r} names a file outside its folder for its tensors, or none: "
                f"{name[:MAX_NAME]!r}, which is not read",
                fix="Export the model into one file, or into a folder with all its files",
            )
    if len(names) > MAX_FILES:
        raise RecipeError(
            f"{shown!r} names {len(names)} files; the limit is {MAX_FILES}",
            fix="Export the model into fewer files",
        )
    return names


class _Walk:
    """A walk through a message and the messages within it."""

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def entries(self, message: memoryview, kind: str, depth: int) -> Iterator[tuple[str, str]]:
        """Yield the key and value of each entry that says where tensors are."""
        if depth > MAX_DEPTH:
            raise _BadGraphError(f"it is nested more than {MAX_DEPTH} deep")
        if kind == "entry":
            parts = {number: bytes(part) for number, part in self._fields(message)}
            key, value = (parts.get(n, b"").decode("utf-8", "replace") for n in (1, 2))
            yield key, value
            return
        children = _CHILDREN[kind]
        for number, part in self._fields(message):
            if number in children:
                yield from self.entries(part, children[number], depth + 1)

    def _fields(self, message: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yield the number and the content of each field that is a message, a text or bytes."""
        place = 0
        while place < len(message):
            self._left -= 1
            if self._left < 0:
                raise _BadGraphError(f"it has more than {MAX_FIELDS:,} fields")
            tag, place = _varint(message, place)
            kind, length = tag & 7, 0
            if kind == _VARINT:
                _, place = _varint(message, place)
            elif kind == _BYTES:
                length, place = _varint(message, place)
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise _BadGraphError(f"a field has the unknown type {kind}")
            if length > len(message) - place:
                raise _BadGraphError("a field is longer than the file")
            if kind == _BYTES:
                yield tag >> 3, message[place : place + length]
            place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _BadGraphError("a number is too long")
