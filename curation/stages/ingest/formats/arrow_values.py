"""Values of Arrow columns as Python values, also where Arrow itself cannot convert them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def python_values(column: pa.Array) -> tuple[list[Any], frozenset[int]]:
    """Return the values of a column, and the rows whose text is not UTF-8, which have None."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
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
    values: dict[str, Any] = {}
    for place, name in enumerate(names):
        value = _value(scalar[place])
        if names.count(name) > 1:
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
