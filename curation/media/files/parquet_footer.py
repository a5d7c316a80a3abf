"""The footer of a Parquet file, which is checked before Arrow reads it.

Arrow allocates what a footer asks for, and ends the process over some values of a column that it does
not know: pyarrow passes no exception on where it looks at the metadata of a column.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from curation.media.files.limits import COLUMNS, PARQUET_DEPTH, PARQUET_FOOTER_BYTES
from curation.media.files.thrift import (
    BINARY,
    I32,
    I64,
    LIST,
    STRUCT,
    List,
    Reader,
    Struct,
    ThriftError,
)

_END_BYTES = 8
_CODECS = range(8)
_OPTIONAL, _REPEATED = 1, 2
_STATISTICS, _NULLS = 12, 3
"""Fields of the metadata of a column, and of its statistics."""
_SCHEMA, _ROWS, _ROW_GROUPS = 2, 3, 4
"""Fields of the footer; the number of rows is the same field of a row group."""
_ENCRYPTED = "it is encrypted; write it without encryption"
_OTHER_KIND = "a value of the footer is of another kind than it must be"


class TooLargeError(ValueError):
    """A part of a Parquet file that would take more memory than a reader may."""


class _Leaf(NamedTuple):
    """A column: its physical type, and its largest repetition and definition levels."""

    kind: int
    repetition: int
    definition: int


class Footer(NamedTuple):
    """What the footer of a Parquet file says.

    Attributes:
        size: of the file in bytes.
        columns: number of columns.
        nulls: how many nulls each of them has, by row group; None where it is not said.
    """

    size: int
    columns: int
    nulls: list[list[int | None]]


def read_footer(stream: Any) -> Footer:
    """Return what a footer says, which is checked before Arrow reads it.

    Raises:
        TooLargeError: it exceeds the limits.
        ThriftError: it is damaged.
    """
    size = stream.seek(0, 2)
    end = read_at(stream, max(size - _END_BYTES, 0), _END_BYTES)
    if end[4:] == b"PARE":
        raise ThriftError(_ENCRYPTED)
    length = int.from_bytes(end[:4], "little")
    is_parquet = end[4:] == b"PAR1"
    if is_parquet and length > PARQUET_FOOTER_BYTES:
        raise TooLargeError(f"its footer has {length:,} bytes, more than {PARQUET_FOOTER_BYTES:,}")
    if not is_parquet or length + _END_BYTES > size:
        raise ThriftError("it has no footer: it is cut off, or no Parquet file")
    footer = Reader(read_at(stream, size - _END_BYTES - length, length)).struct()
    leaves = list(_leaves(footer))
    rows, nulls = footer.number(_ROWS, 0, I64), []
    for group in _structs(footer, _ROW_GROUPS):
        chunks = _check_chunks(group, leaves)
        nulls.append([_nulls(metadata) for metadata in chunks])
        rows -= group.number(_ROWS, 0, I64)
    if rows:
        raise ThriftError("its row groups have other rows than it says")
    stream.seek(0)
    return Footer(size, len(leaves), nulls)


def read_at(stream: Any, at: int, size: int) -> bytes:
    """Return bytes of a stream from a place on."""
    stream.seek(at)
    return bytes(stream.read(size))


def _structs(values: Struct, field: int) -> Iterator[Struct]:
    yield from _list(values, field, STRUCT)


def _list(values: Struct, field: int, kind: int) -> List:
    """Return the list in a field, empty if there is none.

    Raises:
        ThriftError: Arrow would read it in another way than it was read here.
    """
    items = values.get(field, List(kind, ()))
    if not isinstance(items, List) or values.kinds.get(field, LIST) != LIST:
        raise ThriftError(_OTHER_KIND)
    if items and items.kind != kind:
        raise ThriftError(_OTHER_KIND)
    return items


def _leaves(footer: Struct) -> Iterator[_Leaf]:
    """Yield the columns of the schema: a list of its nodes, each before its children."""
    columns, is_root = 0, True
    open_nodes: list[list[int]] = []
    for node in _structs(footer, _SCHEMA):
        children, repetition = node.number(5), node.number(3)
        levels = [0, 0]
        if open_nodes:
            open_nodes[-1][0] -= 1
            levels = [
                open_nodes[-1][1] + (repetition == _REPEATED),
                open_nodes[-1][2] + (repetition in (_OPTIONAL, _REPEATED)),
            ]
        if children:
            open_nodes.append([children, *levels])
        elif not is_root:
            columns += 1
            yield _Leaf(node.number(1, -1), *levels)
        is_root = False
        while open_nodes and open_nodes[-1][0] <= 0:
            open_nodes.pop()
        if columns > COLUMNS or len(open_nodes) > PARQUET_DEPTH:
            limits = f"{COLUMNS:,} columns, or columns nested in more than {PARQUET_DEPTH} others"
            raise TooLargeError(f"it has more than {limits}")


def _nulls(metadata: Struct) -> int | None:
    """Return the number of nulls of a column, if its statistics say it.

    Arrow ends the process where other values of the statistics are shorter than their type.
    """
    statistics = metadata.get(_STATISTICS)
    if not isinstance(statistics, Struct) or statistics.kinds.get(_NULLS) != I64:
        return None
    return int(statistics[_NULLS])


def _check_chunks(group: Struct, leaves: list[_Leaf]) -> list[Struct]:
    """Check the columns of a row group, and return their metadata.

    Raises:
        ThriftError: they are not those of the schema, or encrypted.
    """
    chunks = list(_structs(group, 1))
    if len(chunks) != len(leaves):
        raise ThriftError(f"a row group has {len(chunks):,} columns, the schema {len(leaves):,}")
    for chunk, leaf in zip(chunks, leaves, strict=True):
        metadata = chunk.get(3)
        if 8 in chunk:
            raise ThriftError(_ENCRYPTED)
        if not isinstance(metadata, Struct):
            raise ThriftError("a column has no metadata")
        if metadata.number(1, -1) != leaf.kind:
            raise ThriftError("a column has another type than the schema says")
        if metadata.number(4, -1) not in _CODECS:
            raise ThriftError("the compression of a column is not known")
        _list(metadata, 2, I32)
        _list(metadata, 3, BINARY)
        _check_histograms(metadata.get(16), leaf)
    return [chunk[3] for chunk in chunks]


def _check_histograms(statistics: Any, leaf: _Leaf) -> None:
    """Check that the counts of levels of a column, where there are any, are as many as its levels."""
    if not isinstance(statistics, Struct):
        return
    for field, level in ((2, leaf.repetition), (3, leaf.definition)):
        counts = _list(statistics, field, I64)
        if counts and len(counts) != level + 1:
            raise ThriftError("a column has statistics of other levels than its own")
