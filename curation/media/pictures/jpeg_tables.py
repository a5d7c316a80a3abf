"""The tables of a JPEG, and which of them its scans read (ITU-T T.81, annex B)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from curation.media.pictures.jpeg import PROGRESSIVE

QUANTIZATION, HUFFMAN, ARITHMETIC = 0xDB, 0xC4, 0xCC
TABLES = frozenset((QUANTIZATION, HUFFMAN, ARITHMETIC))
_FIRST_ARITHMETIC_FRAME = 0xC9
_HEADER = 4
_AC = 0x10

Key = tuple[int, int]
"""Marker of the segment, and class and number of the table in one byte."""


@dataclass
class Table:
    """A table as a segment defines it, and whether a scan reads it."""

    content: bytes
    is_read: bool = False


@dataclass(frozen=True)
class TableSegment:
    """A segment with tables."""

    content: bytes
    tables: tuple[Table, ...]

    def kept(self) -> bytes:
        """Return the segment without the tables that no scan reads; empty if it has no others."""
        read = b"".join(table.content for table in self.tables if table.is_read)
        if len(read) + _HEADER == len(self.content) or not read:
            return self.content if read else b""
        return self.content[:2] + (len(read) + 2).to_bytes(2) + read


@dataclass
class Tables:
    """The tables that are defined at a place of a file.

    Attributes:
        defined: the last one of each number.
        quantization: number of the quantization table by component, of those without a scan so far.
        is_progressive: whether scans of the frame have a part of the coefficients.
        entropy: marker of the tables by which scans are coded.
    """

    defined: dict[Key, Table] = field(default_factory=dict)
    quantization: dict[int, int] = field(default_factory=dict)
    is_progressive: bool = False
    entropy: int = HUFFMAN

    def define(self, segment: bytes) -> TableSegment:
        """Note the tables of a segment, which replace others.

        Raises:
            ValueError: they do not fill it.
        """
        marker, tables = segment[1], []
        for content in _tables(marker, segment[_HEADER:]):
            table = Table(content)
            self.defined[marker, content[0] & 0x0F if marker == QUANTIZATION else content[0]] = (
                table
            )
            tables.append(table)
        return TableSegment(segment, tuple(tables))

    def read_frame(self, segment: bytes) -> None:
        """Note the components of a frame.

        Raises:
            ValueError: it holds more or less than them.
        """
        components = segment[_HEADER + 6 :]
        if len(segment) < _HEADER + 6 or len(components) != 3 * segment[_HEADER + 5]:
            raise ValueError("the header of a frame does not hold its components")
        self.quantization = dict(zip(components[::3], components[2::3], strict=True))
        self.is_progressive = segment[1] in PROGRESSIVE
        self.entropy = ARITHMETIC if segment[1] >= _FIRST_ARITHMETIC_FRAME else HUFFMAN

    def read_scan(self, header: bytes) -> None:
        """Note which tables a scan reads.

        Raises:
            ValueError: its header holds more or less than its components.
        """
        body = header[_HEADER:]
        if not body or len(body) != 4 + 2 * body[0]:
            raise ValueError("the header of a scan does not hold its components")
        first, approximation = body[-3], body[-1]
        for component, selector in zip(body[1:-3:2], body[2:-3:2], strict=True):
            # The first scan of a component decides its quantization.
            self._read(QUANTIZATION, self.quantization.pop(component, None))
            if not self.is_progressive or (first == 0 and approximation < _AC):
                self._read(self.entropy, selector >> 4)
            if not self.is_progressive or first > 0:
                self._read(self.entropy, _AC | selector & 0x0F)

    def _read(self, marker: int, number: int | None) -> None:
        if number is not None and (marker, number) in self.defined:
            self.defined[marker, number].is_read = True


def _tables(marker: int, content: bytes) -> Iterator[bytes]:
    """Yield the tables of a segment without its header."""
    while content:
        size = _size(marker, content)
        if len(content) < size:
            raise ValueError("a table is cut off")
        yield content[:size]
        content = content[size:]


def _size(marker: int, content: bytes) -> int:
    """Return the bytes of the first table."""
    if marker == HUFFMAN:
        return 17 + sum(content[1:17])
    if marker == QUANTIZATION:
        return 1 + 64 * (2 if content[0] >> 4 else 1)
    return 2
