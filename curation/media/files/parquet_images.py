"""Encoded images in columns of Parquet files."""

from __future__ import annotations

import pyarrow as pa


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the values of an Arrow type are bytes."""
    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def inline_column(schema: pa.Schema, name: str) -> str | None:
    """Return the Parquet path of a column of encoded images; None if it cannot hold any.

    The column is of bytes, or a struct with a field `bytes`, as the `datasets` library writes it.
    """
    kind = schema.field(name).type
    if is_bytes(kind):
        return name
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return f"{name}.bytes" if is_bytes(kind.field("bytes").type) else None
    return None


def image_values(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Return the encoded images in a column of a batch, as an array of bytes."""
    column = batch.column(name)
    return column.field("bytes") if pa.types.is_struct(column.type) else column
