"""The lengths of texts in Parquet's delta encodings, before Arrow takes memory for them.

A page says how many values it has, and its content says again how many lengths follow. Arrow takes
memory for the latter, and of equal lengths a few bytes hold a billion.
"""

from __future__ import annotations

from curation.media.files.thrift import ThriftError

LENGTHS, BYTES = 6, 7
"""DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY, as Parquet numbers them."""
_CUT = "the lengths of a page are cut off"


def check_lengths(content: memoryview, encoding: int, values: int) -> None:
    """Check that a page has no more lengths than values.

    Args:
        content: of the page, after its levels.
        encoding: of its values.
        values: of the page, nulls among them.

    Raises:
        ThriftError: it has, or they are damaged.
    """
    if not content:
        return
    end = _passed(content, 0, values)
    if encoding == BYTES:
        # After what each shares with the one before it, the lengths of the rest.
        _passed(content, end, values)


def _passed(content: memoryview, at: int, values: int) -> int:
    """Return the place after numbers in DELTA_BINARY_PACKED, of which there may be so many."""
    block, at = _varint(content, at)
    parts, at = _varint(content, at)
    count, at = _varint(content, at)
    _, at = _varint(content, at)
    if count > values:
        raise ThriftError(f"a page of {values:,} values has {count:,} lengths")
    size = block // parts if parts else 0
    if not size or size % 8:
        raise ThriftError("the lengths of a page have blocks of an unknown size")
    left = count - 1
    while left > 0:
        _, at = _varint(content, at)
        widths = content[at : at + min(parts, -(-left // size))]
        at += parts + sum(widths) * size // 8
        left -= size * len(widths)
        if not widths or at > len(content):
            raise ThriftError(_CUT)
    return at


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content) and shift < 64:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise ThriftError(_CUT)
