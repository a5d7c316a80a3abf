"""Vectors and ids in columns of Parquet files, read in bounded memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import Detail, RecipeError, StoreError
from curation.media.files.location import open_local
from curation.media.files.parquet_images import leaves, plain_type
from curation.media.files.parquet_reading import BoundedParquet, Unread

BATCH_ROWS = 8192
NO_VECTOR = "missing"
"""Reason of a row whose vector is null, or is in no file."""
WRONG_DIMENSION = "wrong_dimension"
"""Reason of a row whose list has another length than the first list of the files with numbers."""


def open_parquet(path: Path) -> BoundedParquet:
    """Open a Parquet file.

    Raises:
        RecipeError: it cannot be read.
    """
    try:
        return BoundedParquet(open_local(str(path)))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RecipeError(
            f"{str(path)!r} cannot be read as Parquet ({error})",
            fix="Write the file again, or correct its path in the recipe",
        ) from error


def column_batches(
    path: Path, column: str, groups: Sequence[int] | None = None
) -> Iterator[tuple[int, pa.Array]]:
    """Yield the values of a column, each part of at most BATCH_ROWS with the number of its first row.

    Args:
        path: the file.
        column: the column.
        groups: the row groups; None for all.

    Raises:
        RecipeError: the file has no such column.
        StoreError: a row group cannot be read.
    """
    bounded = open_parquet(path)
    schema = bounded.file.schema_arrow
    for part in bounded.batches(leaves(schema, place_of(path, schema, column)), BATCH_ROWS, groups):
        if isinstance(part, Unread):
            raise StoreError(
                f"{str(path)!r}: {part.problem}",
                fix="Write the file again, with smaller row groups if it is not damaged",
            )
        start, values = part.start, part.rows.column(0)
        # They would stay while the next ones are read.
        del part
        yield start, values
        del values


def place_of(path: Path, schema: pa.Schema, column: str) -> int:
    """Return the place of a column.

    Raises:
        RecipeError: there is no such column, or several.
    """
    if schema.names.count(column) != 1:
        problem = "several columns" if column in schema.names else "no column"
        message = f"the file has {problem} {column!r}"
        fix = "Correct `column` in the recipe"
        raise RecipeError(Detail(message, repr(str(path)), column, tuple(schema.names), fix))
    return int(schema.names.index(column))


class ParquetVectors:
    """Vectors in a column of lists, or of lists of one length.

    Args:
        path: the file.
        column: name of the column; None takes the only one that can hold vectors.

    Raises:
        RecipeError: there is no such column, or several, or it holds no lists of floats.
    """

    def __init__(self, path: Path, column: str | None) -> None:
        bounded = open_parquet(path)
        schema = bounded.file.schema_arrow
        self.path, self.column = path, _column_of_vectors(path, schema, column)
        self.rows = bounded.group_starts[-1]
        self._starts = bounded.group_starts
        kind = plain_type(schema.field(self.column).type)
        self.dim = kind.list_size if pa.types.is_fixed_size_list(kind) else self._first_length()

    def _first_length(self) -> int:
        """Return the length of the first list that is not empty; 0 if there is none."""
        for _, values in column_batches(self.path, self.column):
            lengths = pc.list_value_length(_storage(values))
            some = lengths.filter(pc.greater(lengths, 0))
            if len(some):
                return int(some[0].as_py())
        return 0

    def take(self, numbers: Any) -> tuple[Any, Any]:
        """Return the vectors of some rows, (n, dim), and why a row has none (None if it has), (n,).

        Args:
            numbers: of the rows, sorted, (n,).
        """
        wanted = numbers.tolist()
        groups = [
            group
            for group, (start, end) in enumerate(pairwise(self._starts))
            if bisect_left(wanted, start) < bisect_left(wanted, end)
        ]
        vectors: Any = None
        reasons = np.full(len(wanted), NO_VECTOR, object)
        for start, values in column_batches(self.path, self.column, groups=groups):
            first, end = np.searchsorted(numbers, (start, start + len(values)))
            lists = _storage(values).take(pa.array(numbers[first:end] - start))
            part, reasons[first:end] = _rows_of(lists, self.dim)
            if vectors is None:
                vectors = np.zeros((len(wanted), self.dim), part.dtype)
            vectors[first:end] = part
        return np.zeros((0, self.dim), np.float32) if vectors is None else vectors, reasons


def _storage(values: pa.Array) -> pa.Array:
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def _rows_of(lists: pa.Array, dim: int) -> tuple[Any, Any]:
    """Return lists as rows of a matrix, and the reasons of those that are none; a null value is NaN."""
    lengths = pc.list_value_length(lists)
    known = np.asarray(pc.is_valid(lists))
    fits = known & (np.asarray(pc.fill_null(lengths, -1)) == dim)
    reasons = np.where(known, WRONG_DIMENSION, NO_VECTOR).astype(object)
    reasons[fits] = None
    numbers = lists.filter(pa.array(fits)).flatten()
    vectors = np.zeros((len(lists), dim), numbers.type.to_pandas_dtype())
    vectors[fits] = numbers.to_numpy(zero_copy_only=False).reshape(-1, dim)
    return vectors, reasons


def _column_of_vectors(path: Path, schema: pa.Schema, column: str | None) -> str:
    candidates = [field.name for field in schema if _holds_vectors(field.type)]
    if column is None and len(candidates) == 1:
        return str(candidates[0])
    if column is None:
        count = "several columns" if candidates else "no column"
        message = f"the file has {count} of lists of floats; it has {', '.join(schema.names)}"
        fix = "Name the one with the vectors as `column`" if candidates else _AS_LISTS
        raise RecipeError(Detail(message, repr(str(path)), valid=tuple(candidates), fix=fix))
    place = place_of(path, schema, column)
    if column not in candidates:
        message = (
            f"column {column!r} has the type {schema.field(place).type}; vectors are lists of float16, "
            "float32 or float64, of one length"
        )
        fix = "Name one of these columns" if candidates else _AS_LISTS
        raise RecipeError(Detail(message, repr(str(path)), column, tuple(candidates), fix))
    return column


_AS_LISTS = "Write vectors as lists of float16, float32 or float64"


def _holds_vectors(kind: pa.DataType) -> bool:
    types, kind = pa.types, plain_type(kind)
    is_list = (types.is_list(kind), types.is_large_list(kind), types.is_fixed_size_list(kind))
    return any(is_list) and types.is_floating(kind.value_type)
