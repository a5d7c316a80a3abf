"""Columns of Parquet files by their places, and encoded images in them.

Names do not tell columns apart: a column may be called `img.bytes` beside a struct `img` with a field
`bytes`, and two columns may share a name.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the values of an Arrow type are bytes."""
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether the values of an Arrow type are texts."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values themselves, without a dictionary or an extension type."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    return plain_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _leaf_count(kind: pa.DataType) -> int:
    """Return the number of Parquet columns of an Arrow type."""
    kind = plain_type(kind)
    if pa.types.is_nested(kind):
        return sum(_leaf_count(kind.field(i).type) for i in range(kind.num_fields))
    return 1


def leaf_depths(schema: pa.Schema) -> list[int]:
    """Return in how many lists and structs each Parquet column of a schema is."""
    return [depth for field in schema for depth in _depths(field.type, 0)]


def _depths(kind: pa.DataType, depth: int) -> Iterator[int]:
    kind = plain_type(kind)
    if not pa.types.is_nested(kind):
        yield depth
    for child in (kind.field(i) for i in range(kind.num_fields)):
        yield from _depths(child.type, depth + 1)


def leaves(schema: pa.Schema, position: int) -> range:
    """Return the numbers of the Parquet columns of one column of a schema."""
    start = sum(_leaf_count(schema.field(i).type) for i in range(position))
    return range(start, start + _leaf_count(schema.field(position).type))


def image_leaf(schema: pa.Schema, position: int) -> int | None:
    """Return the number of the Parquet column with encoded images; None if a column cannot hold any.

    The column is of bytes, or a struct with a field `bytes`, as the `datasets` library writes it, or
    without any value.
    """
    kind, start = plain_type(schema.field(position).type), leaves(schema, position).start
    if is_bytes(kind) or pa.types.is_null(kind):
        return start
    at = kind.get_field_index("bytes") if pa.types.is_struct(kind) else -1
    if at < 0 or not (is_bytes(kind.field(at).type) or pa.types.is_null(kind.field(at).type)):
        return None
    return start + sum(_leaf_count(kind.field(i).type) for i in range(at))


def path_leaf(schema: pa.Schema, position: int) -> int | None:
    """Return the number of the Parquet column with paths beside encoded images; None without one."""
    kind = plain_type(schema.field(position).type)
    at = kind.get_field_index("path") if pa.types.is_struct(kind) else -1
    if at < 0 or not is_text(kind.field(at).type):
        return None
    start = leaves(schema, position).start
    return start + sum(_leaf_count(kind.field(i).type) for i in range(at))


def path_values(column: pa.Array) -> pa.Array | None:
    """Return the paths in a column of images, as an array of text; None if it holds none."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if not pa.types.is_struct(column.type) or column.type.get_field_index("path") < 0:
        return None
    return column.field("path")


def image_values(column: pa.Array) -> pa.Array:
    """Return the encoded images in a column, as an array of bytes."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_struct(column.type):
        column = column.field("bytes")
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def image_at(values: pa.Array, place: int) -> pa.Buffer | None:
    """Return one encoded image without a copy; None where there is none."""
    value = values[place]
    return value.as_buffer() if value.is_valid else None
