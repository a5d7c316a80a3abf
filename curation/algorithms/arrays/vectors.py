"""Vectors: from Parquet to numpy and back, and the array types that algorithms share.

A vector is stored as fixed-size bytes (FIXED_LEN_BYTE_ARRAY) of little-endian float16. pandas, DuckDB,
Polars and Spark read these bytes, whereas Spark refuses Parquet's FLOAT16. They take half the space of
float32 (2.7 TB instead of 5.3 TB for 1.3 billion vectors of 1024 numbers), and numpy reads them without
a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Vectors = npt.NDArray[np.floating[Any]]
"""Embeddings of unit length: float16 or float32 of shape (n, dim)."""

Bools = npt.NDArray[np.bool_]

Ids = npt.NDArray[np.bytes_]
"""Image ids: dtype S32, shape (n,)."""

RowNumbers = npt.NDArray[np.int64]
"""Numbers of rows, shape (n,)."""

Floors = npt.NDArray[np.float32]
"""The smallest similarity that each query wants, shape (n,)."""
Floor = float | Floors
"""The smallest similarity that is wanted: of all queries, or of each."""


def floor_of_each(at_least: Floor, queries: int) -> Floors:
    """Return the smallest similarity that each of some queries wants, (queries,)."""
    return np.broadcast_to(np.asarray(at_least, np.float32), queries)


def vector_array(vectors: Vectors, valid: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return vectors as an Arrow array of fixed-size bytes, in their own dtype, little-endian.

    Args:
        vectors: shape (n, dim).
        valid: which of them are valid, shape (n,); the others become null. By default all are valid.
    """
    little = np.ascontiguousarray(vectors, dtype=vectors.dtype.newbyteorder("<"))
    width = little.dtype.itemsize * little.shape[1]
    mask = None if valid is None else pa.array(valid).buffers()[1]
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(little), [mask, pa.py_buffer(little.tobytes())]
    )


def vector_matrix(column: pa.Array | pa.ChunkedArray, dtype: str = "<f2") -> Vectors:
    """Return a column of fixed-size bytes as an array of shape (n, dim).

    A column of one chunk is not copied.

    Args:
        column: without nulls.
        dtype: of the stored numbers; embeddings are `<f2`, centroids `<f4`.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = (
                pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
            )
    width = column.type.byte_width
    values = np.frombuffer(column.buffers()[1] or b"", dtype=dtype)
    dim = width // np.dtype(dtype).itemsize
    return values.reshape(-1, dim)[column.offset : column.offset + len(column)]


LARGEST_EXPONENT = 40
"""Of the largest number of a vector, as a power of two, up to which lengths are computed as it is: the
squares of 65,536 such numbers neither overflow nor vanish in float32."""


def of_moderate_size(vectors: Vectors) -> Vectors:
    """Return vectors of which those with very large or very small numbers are scaled by powers of two.

    Their directions are the same, to the bit. Without this, squares of numbers from about 10^19 on, or
    below 10^-19, would be infinite or zero in float32, and a vector would seem to have no length.

    Args:
        vectors: float32 or float64 of shape (n, dim).

    Returns:
        Shape (n, dim); the same array if no vector is scaled.
    """
    largest = np.abs(vectors).max(axis=1, initial=0)
    known = np.isfinite(largest) & (largest > 0)
    exponents = np.frexp(np.where(known, largest, 1))[1]
    extreme = np.abs(exponents) > LARGEST_EXPONENT
    if not extreme.any():
        return vectors
    scaled = vectors.copy()
    scaled[extreme] = np.ldexp(vectors[extreme], -exponents[extreme, None])
    return scaled


def comparable(vectors: Vectors) -> Bools:
    """Return which vectors (n, dim) are finite and not all zero, (n,). Others have no direction."""
    return np.asarray(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1), dtype=bool)


def unit_vectors(features: Vectors) -> tuple[npt.NDArray[np.float16], Bools]:
    """Return vectors divided by their lengths, in float16, and which of them have a direction.

    Args:
        features: float32 or float64 of shape (n, dim).

    Returns:
        Unit vectors (n, dim), and which of them are valid, (n,); the others are zero.
    """
    # Features that overflow or are not finite give no vector; numpy need not warn.
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        finite = np.isfinite(features).all(axis=1, keepdims=True) & (lengths > 0)
        unit = np.where(finite, features / np.where(lengths > 0, lengths, 1), 0)
        vectors = unit.astype(np.float16)
    # If the length overflows, all values become zero.
    return vectors, comparable(vectors)


def comparable_rows(column: pa.ChunkedArray) -> Bools:
    """Return which rows of a column of embeddings hold a vector, finite and not all zero, (n,)."""
    rows = np.array(column.is_valid().to_numpy(), dtype=bool)
    if rows.any():
        rows[rows] = comparable(vector_matrix(column.drop_null()))
    return rows
