"""Values of Arrow columns as Python values, also where Arrow itself cannot convert them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.media.files.parquet_images import is_bytes, is_text

_VALUE_BYTES, _LIST_BYTES, _STRUCT_BYTES = 80, 80, 300
"""What a value, a list and an object take besides what they hold, in Python and as JSON."""
_CHARACTER_BYTES = 4
"""Of a text with one character beyond Latin and its neighbours, each takes so many."""


def parts_of(batch: pa.RecordBatch, most: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a batch in parts that take few bytes as Python values.

    Args:
        batch: the rows.
        most: bytes of a part; one row may take more.
    """
    size = sum(map(python_bytes, batch.columns))
    if batch.num_rows <= 1 or size <= most:
        yield batch
        return
    rows = min(max(1, batch.num_rows * most // size), batch.num_rows // 2)
    for start in range(0, batch.num_rows, rows):
        # Some rows take more than others.
        yield from parts_of(batch.slice(start, rows), most)


def decoded(column: pa.Array) -> pa.Array:
    """Return a column without its dictionary, if it has one."""
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def python_bytes(column: pa.Array) -> int:
    """Return what the values of a column take at most as Python values, in bytes."""
    types, kind, rows = pa.types, column.type, len(column)
    if isinstance(column, pa.ExtensionArray):
        return python_bytes(column.storage)
    if types.is_dictionary(kind):
        return python_bytes(column.dictionary_decode())
    if types.is_struct(kind):
        names = sum(len(child.name) * _CHARACTER_BYTES + _VALUE_BYTES for child in kind)
        parts = (python_bytes(column.field(i)) for i in range(kind.num_fields))
        return rows * (_STRUCT_BYTES + names) + sum(parts)
    if types.is_nested(kind):
        return rows * _LIST_BYTES + python_bytes(_inner(column))
    return rows * _VALUE_BYTES + _text_bytes(column)


def _inner(column: pa.Array) -> pa.Array:
    """Return the values in the lists of a column, and perhaps more."""
    if isinstance(column, pa.ListArray | pa.LargeListArray | pa.MapArray):
        start, end = (column.offsets[place].as_py() for place in (0, len(column)))
        return column.values.slice(start, end - start)
    return column.flatten()


def _text_bytes(column: pa.Array) -> int:
    if not (is_text(column.type) or is_bytes(column.type)):
        return 0
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        # Arrow knows no lengths of views.
        plain = pa.large_string() if is_text(column.type) else pa.large_binary()
        column = column.cast(plain, safe=False)
    return _CHARACTER_BYTES * int(pc.sum(pc.binary_length(column)).as_py() or 0)


def python_values(column: pa.Array) -> tuple[list[Any], frozenset[int]]:
    """Return the values of a column, and the rows whose text is not UTF-8, which have None."""
    column = decoded(column)
    try:
        return list(column.to_pylist()), frozenset()
    except Exception:
        # One odd value: bad UTF-8, a date that Python has not, a struct with a name twice.
        pass
    values, invalid = [], set()
    for row, scalar in enumerate(column):
        try:
            values.append(_value(scalar))
        except UnicodeDecodeError:
            values.append(None)
            invalid.add(row)
    return values, frozenset(invalid)


def _value(scalar: pa.Scalar) -> Any:
    """Return one value; of struct fields that share a name, a list.

    Raises:
        UnicodeDecodeError: a text is not UTF-8.
    """
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        raise
    except Exception:
        if isinstance(scalar, pa.StructScalar):
            return _struct(scalar)
        if isinstance(scalar, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
            return [_value(item) for item in scalar.values]
        if isinstance(scalar, pa.DictionaryScalar | pa.ExtensionScalar):
            return _value(scalar.value)
        return _as_text(scalar)


def _struct(scalar: pa.StructScalar) -> dict[str, Any]:
    names = [field.name for field in scalar.type]
    times, values = Counter(names), dict[str, Any]()
    for place, name in enumerate(names):
        value = _value(scalar[place])
        if times[name] > 1:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value
    return values


def _as_text(scalar: pa.Scalar) -> str:
    try:
        return str(scalar.cast(pa.string()))
    except pa.ArrowException:
        # A time zone that this system does not know.
        return f"{scalar.value} {scalar.type}"
