"""Image ids: from Arrow to numpy and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import Bools, Ids

ID_LIMIT = 2**26
"""An Arrow string array holds fewer ids of 32 bytes than this, because its offsets are int32."""


def to_ids(column: pa.Array | pa.ChunkedArray) -> Ids:
    """Return a column of image ids as an array of shape (n,) and dtype S32."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype="S32")


def from_ids(ids: Ids, known: Bools | None = None) -> pa.Array:
    """Return image ids as an Arrow array of strings.

    Ids of full length are not copied: Arrow's own conversion is slow, and splits the result into chunks
    from about a million ids on.

    Args:
        ids: shape (n,), dtype S32.
        known: which ids are valid, shape (n,); the others become null. By default all are valid.

    Raises:
        ValueError: there are ID_LIMIT ids or more.
    """
    contiguous = np.ascontiguousarray(ids, "S32")
    if len(contiguous) >= ID_LIMIT:
        raise ValueError(
            f"found {len(contiguous)} ids; one string array holds fewer than {ID_LIMIT}"
        )
    valid_bits = None if known is None else pa.array(known).buffers()[1]
    has_full_length = contiguous.view(np.uint8).reshape(-1, 32)[:, -1] > 0
    if not (has_full_length if known is None else has_full_length | ~known).all():
        return pa.array(ids.astype("U32"), pa.string(), mask=None if known is None else ~known)
    offsets = np.arange(0, 32 * (len(contiguous) + 1), 32, dtype=np.int32)
    return pa.StringArray.from_buffers(
        len(contiguous), pa.py_buffer(offsets), pa.py_buffer(contiguous), valid_bits
    )
