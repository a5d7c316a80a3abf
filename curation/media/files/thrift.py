"""Thrift's compact protocol, as far as Parquet's footers and page headers need it.

They are looked at before Arrow reads them, because Arrow allocates what they ask for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from curation.media.files.limits import PARQUET_DEPTH, PARQUET_FOOTER_STRUCTS

_STOP, _TRUE, _FALSE, _BYTE = 0, 1, 2, 3
_INTEGERS = (4, 5, 6)
_DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 7, 8, 9, 10, 11, 12
I32, I64, BINARY, LIST, STRUCT = 5, 6, _BINARY, _LIST, _STRUCT
"""Kinds of values, as they are numbered in a file."""


class Struct(dict[int, Any]):
    """Values by the numbers of their fields; a text is its length, because no text decides anything.

    Attributes:
        kinds: of the values. A reader that expects another kind in a field passes its value over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[int, int] = {}

    def number(self, field: int, default: int = 0, kind: int = I32) -> int:
        """Return the number in a field.

        Raises:
            ThriftError: a value of another kind stands there.
        """
        if self.kinds.get(field, kind) != kind:
            raise ThriftError("a value is of another kind than it must be")
        return int(self.get(field, default))


class List(list[Any]):
    """Values of one kind.

    Attributes:
        kind: of the values. A reader takes them for what it expects, whatever this says.
    """

    def __init__(self, kind: int, values: Iterable[Any]) -> None:
        super().__init__(values)
        self.kind = kind


class ThriftError(ValueError):
    """Bytes that are no such structure, or one that exceeds the limits."""


class IncompleteError(ThriftError):
    """The bytes end before the structure does."""


class Reader:
    """Reads structures from bytes.

    Attributes:
        at: the place of the next byte.
    """

    def __init__(self, content: bytes, structs: int = PARQUET_FOOTER_STRUCTS) -> None:
        self._content, self._left = content, structs
        self.at = 0

    def struct(self, depth: int = 0) -> Struct:
        """Return the structure that begins here.

        Raises:
            ThriftError: there is none, or it exceeds the limits.
        """
        self._left -= 1
        if depth > PARQUET_DEPTH or self._left < 0:
            raise ThriftError("it holds too many structures, or they are nested too deep")
        values = Struct()
        number = 0
        while (head := self._byte()) & 0x0F != _STOP:
            delta, kind = head >> 4, head & 0x0F
            number = number + delta if delta else self._integer()
            values.kinds[number] = kind
            values[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return values

    def _byte(self) -> int:
        if self.at >= len(self._content):
            raise IncompleteError("it is cut off")
        self.at += 1
        return self._content[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ThriftError("a number is too long")
        return value | byte << shift

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, size: int) -> int:
        if self.at + size > len(self._content):
            raise IncompleteError("it is cut off")
        self.at += size
        return size

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._skip(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind in (_BYTE, _TRUE, _FALSE):
            return self._byte()
        if kind == _DOUBLE:
            return self._skip(8)
        raise ThriftError(f"values of the kind {kind} do not occur in Parquet")

    def _list(self, depth: int) -> List:
        head = self._byte()
        size = head >> 4
        if size == 15:
            size = self._varint()
        # Each value takes a byte at least.
        if size > len(self._content) - self.at:
            raise IncompleteError("a list is cut off")
        self._left -= size // 16
        if depth > PARQUET_DEPTH or self._left < 0:
            raise ThriftError("it holds too many structures, or they are nested too deep")
        kind = head & 0x0F
        return List(kind, (self._value(kind, depth + 1) for _ in range(size)))
