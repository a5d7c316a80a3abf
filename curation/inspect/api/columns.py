"""The columns of stored tables. Vectors are stored as bytes, and shown as lists of numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import vector_matrix
from curation.engine.column_types import VECTOR
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.table_name import TableName
from curation.media.encoders.params import EMBEDDINGS

HALF, SINGLE = "<f2", "<f4"


def vector_columns(table: str) -> list[str]:
    """Return the columns of a table that hold vectors."""
    return [column.name for column in contract(table).columns if column.type == VECTOR]


def stored_dtype(table: str) -> str:
    """Return the numpy dtype of the vectors of a table: embeddings are float16, centroids float32."""
    return HALF if TableName(table).contract == EMBEDDINGS.name else SINGLE


def dimension(kind: pa.DataType, dtype: str) -> int:
    """Return the number of numbers in a vector, given the type of its column."""
    return int(kind.byte_width) // np.dtype(dtype).itemsize


def to_floats(column: pa.Array, dtype: str, dim: int) -> pa.Array:
    """Return a column of vectors as fixed-size lists of float32; null stays null.

    Args:
        column: of bytes, fixed-size or not.
        dtype: of the stored numbers.
        dim: numbers in a vector.
    """
    width = dim * np.dtype(dtype).itemsize
    fixed = column if column.type == pa.binary(width) else column.cast(pa.binary(width))
    values = vector_matrix(fixed, dtype).astype(np.float32).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(values), dim, mask=fixed.is_null())


def with_floats(rows: pa.Table | pa.RecordBatch, table: str) -> pa.Table:
    """Return rows of a table with its vectors as fixed-size lists of float32."""
    shown = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    dtype = stored_dtype(table)
    for name in vector_columns(table):
        index = shown.schema.get_field_index(name)
        if index < 0 or not pa.types.is_fixed_size_binary(shown.schema.field(index).type):
            continue
        dim = dimension(shown.schema.field(index).type, dtype)
        chunks = [to_floats(chunk, dtype, dim) for chunk in shown.column(index).chunks]
        kind = pa.list_(pa.float32(), dim)
        field = pa.field(name, kind, metadata=shown.schema.field(index).metadata)
        shown = shown.set_column(index, field, pa.chunked_array(chunks, kind))
    return shown


def stored_schema(table: Table) -> pa.Schema:
    """Return the columns of a version as they are in its files; those of the contract without a file.

    Raises:
        StoreError: the first file has vanished or is damaged.
    """
    for fragment in table.fragments.values():
        schema = fragment.schema()
        if schema is not None:
            return schema
    return contract(table.manifest.table).arrow_schema()
