"""Values of Arrow that are made from buffers: `pa.array` and `pa.scalar` would import pandas.

pandas takes longer to import than a row takes to find.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def texts(values: Sequence[str]) -> pa.Array:
    """Return texts as an array."""
    encoded = [value.encode("utf-8", "replace") for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(values), *buffers)


def text(value: str) -> pa.Scalar:
    """Return a text as a scalar."""
    return texts([value])[0]


def integers(values: Sequence[int]) -> pa.Array:
    """Return numbers as an array of int32."""
    data = np.array(values, dtype=np.int32)
    return pa.Array.from_buffers(pa.int32(), len(data), [None, pa.py_buffer(data)])
