"""Arrays that may be larger than memory: above a limit they are in temporary files, mapped into memory.

The system keeps of such a file what memory has room for. The file has no name, so it is gone once the
array is, also after a crash.
"""

from __future__ import annotations

import os
import tempfile
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.errors import StoreError

IN_MEMORY_BYTES = 2**30
"""Largest array that is held in memory."""
BYTES_PER_STEP = 2**26
"""Bytes that are copied at once."""


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return an array of zeros.

    Raises:
        StoreError: it goes into a file, which cannot be made, or for which the disk has no room.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="curation-") as file:
            # Without reserved space, a full disk would end the process when a page is written.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    except OSError as error:
        raise StoreError(
            f"An array of {size / 2**30:.1f} GiB cannot be kept in a file in "
            f"{tempfile.tempdir or 'a temporary folder'} ({error.strerror})",
            fix="Set the environment variable TMPDIR to a folder on a disk with more room",
        ) from error


def take_rows(vectors: Vectors, rows: RowNumbers, dtype: npt.DTypeLike | None = None) -> Vectors:
    """Return `vectors[rows]`, (m, dim), of a type; all rows in their order are not copied.

    Args:
        vectors: (n, dim).
        rows: their numbers, (m,).
        dtype: by default that of the vectors.
    """
    kind = np.dtype(dtype or vectors.dtype)
    is_same = kind == vectors.dtype and len(rows) == len(vectors)
    if is_same and np.array_equal(rows, np.arange(len(rows))):
        return vectors
    taken: Vectors = zeros((len(rows), vectors.shape[1]), kind)
    for part in steps(taken):
        taken[part] = vectors[rows[part]]
    return taken


def steps(array: npt.NDArray[Any]) -> list[slice]:
    """Return the rows of an array in parts of about BYTES_PER_STEP."""
    step = max(1, BYTES_PER_STEP // max(1, array.nbytes // max(1, len(array))))
    return [slice(start, start + step) for start in range(0, len(array), step)]
