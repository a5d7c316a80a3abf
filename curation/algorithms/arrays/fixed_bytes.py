"""Byte strings of equal length: from Arrow to numpy and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def fixed_bytes(values: npt.NDArray[Any]) -> pa.Array:
    """Return byte strings of equal length, or rows of bytes, as an Arrow array."""
    width = values.dtype.itemsize * (values.shape[1] if values.ndim > 1 else 1)
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.binary(width), len(values), [None, buffer])


def bytes_of(table: pa.RecordBatch | pa.Table, name: str) -> npt.NDArray[np.bytes_]:
    """Return a column of byte strings of equal length, shape (n,)."""
    column = table.column(name)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    width = array.type.byte_width
    raw = np.frombuffer(array.buffers()[1], f"S{width}", len(array), array.offset * width)
    return raw
