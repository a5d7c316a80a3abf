"""Image ids between Arrow and numpy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import (
    Bools,
    Ids,
)


def to_ids(column: pa.Array | pa.ChunkedArray) -> Ids:
    """Return image ids as S32."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype="S32")


def from_ids(ids: Ids, known: Bools | None = None) -> pa.Array:
    """Return image ids as strings, null where not known.

    Arrow's own conversion is slow, and gives chunks from a million on.

    Raises:
        ValueError: there are more than a string array holds, 2^26.
    """
    whole = np.ascontiguousarray(ids, "S32")
    if len(whole) >= 2**26:
        raise ValueError(f"{len(whole)} ids do not fit into one string array")
    mask = None if known is None else pa.array(known).buffers()[1]
    full = whole.view(np.uint8).reshape(-1, 32)[:, -1] > 0
    if not (full if known is None else full | ~known).all():
        return pa.array(ids.astype("U32"), pa.string(), mask=None if known is None else ~known)
    ends = np.arange(0, 32 * (len(whole) + 1), 32, dtype=np.int32)
    buffers = pa.py_buffer(ends), pa.py_buffer(whole), mask
    return pa.StringArray.from_buffers(len(whole), *buffers)
