"""The column types of contracts, and what they are in Arrow."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curation.errors import did_you_mean

Type = str | dict[str, Any]
"""A name of VALID_TYPES, or `{list: TYPE}`, or `{struct: {NAME: TYPE, …}}`."""

VECTOR = "vector"
"""Fixed-size bytes; the first batch that is written says how many. No list or struct holds them."""

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
}
NUMBERS = ("int32", "int64", "float", "double")
"""The types that can have a minimum and a maximum."""
VALID_TYPES = (*_ARROW, VECTOR)


def type_problem(declared: Any, nested: bool = False) -> str | None:
    """Return what is wrong with a declared type, or None.

    Args:
        declared: the type as the file has it.
        nested: whether it is the type of an element of a list or of a field of a struct.
    """
    scalars = tuple(_ARROW) if nested else VALID_TYPES
    if isinstance(declared, str) and declared in scalars:
        return None
    if isinstance(declared, dict) and list(declared) == ["list"]:
        return type_problem(declared["list"], nested=True)
    if isinstance(declared, dict) and list(declared) == ["struct"]:
        fields = declared["struct"]
        if isinstance(fields, dict) and fields:
            problems = (type_problem(field, nested=True) for field in fields.values())
            return next((problem for problem in problems if problem), None)
    return (
        f"{declared!r} is no type{did_you_mean(declared, scalars)}. Valid: {', '.join(scalars)}, "
        "{list: TYPE}, {struct: {NAME: TYPE}}"
    )


def arrow_type(declared: Type) -> pa.DataType:
    """Return the Arrow type of a declared type other than `vector`."""
    if isinstance(declared, str):
        return _ARROW[declared]
    if "list" in declared:
        return pa.list_(arrow_type(declared["list"]))
    return pa.struct([(name, arrow_type(field)) for name, field in declared["struct"].items()])
