"""Contracts: what each table of the flow holds, read from `schemas/`.

The Arrow schema and the Spark DDL are both derived from the contract, never written a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curation.engine.resources import resource_dir
from curation.engine.table_name import TableName
from curation.errors import ContractError

Type = str | dict[str, Any]

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
}
_DDL = {
    "string": "STRING",
    "binary": "BINARY",
    "bool": "BOOLEAN",
    "int32": "INT",
    "int64": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    # Spark has no half float and no fixed-size binary: it reads vectors as plain bytes.
    "vector": "BINARY",
}
_DYNAMIC_TYPES = (pa.float32(), pa.float64(), pa.int32(), pa.int64(), pa.bool_(), pa.string())


def _arrow_type(declared: Type) -> pa.DataType:
    if isinstance(declared, str):
        return _ARROW[declared]
    if "list" in declared:
        return pa.list_(_arrow_type(declared["list"]))
    return pa.struct([(name, _arrow_type(t)) for name, t in declared["struct"].items()])


def _ddl_type(declared: Type) -> str:
    if isinstance(declared, str):
        return _DDL[declared]
    if "list" in declared:
        return f"ARRAY<{_ddl_type(declared['list'])}>"
    fields = ", ".join(f"{name}: {_ddl_type(t)}" for name, t in declared["struct"].items())
    return f"STRUCT<{fields}>"


@dataclass(frozen=True)
class Column:
    """One column; `low` and `high` are inclusive bounds, an optional column may be absent."""

    name: str
    type: Type
    doc: str
    nullable: bool = True
    unit: str = ""
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    optional: bool = False

    def arrow_field(self, actual: pa.DataType) -> pa.Field:
        """Return the Arrow field with its documentation; a vector keeps its actual width."""
        declared = actual if self.type == "vector" else _arrow_type(self.type)
        notes = {"doc": self.doc} | ({"unit": self.unit} if self.unit else {})
        return pa.field(self.name, declared, nullable=self.nullable, metadata=notes)

    def faults(self, values: pa.Array) -> str | None:
        """Say what is wrong with `values`, or None."""
        if not self.nullable and values.null_count:
            return f"{values.null_count} null values where none is allowed"
        if self.values:
            found = set(pc.unique(values).to_pylist()) - {None, *self.values}
            if found:
                return f"found {sorted(found)}, valid are {list(self.values)}"
        if (self.low is not None or self.high is not None) and len(values) > values.null_count:
            span = pc.min_max(values).as_py()
            if self.low is not None and span["min"] < self.low:
                return f"found {span['min']}, the least allowed is {self.low}"
            if self.high is not None and span["max"] > self.high:
                return f"found {span['max']}, the most allowed is {self.high}"
        return None


@dataclass(frozen=True)
class Contract:
    """What a table promises: grain, key, columns. `dynamic` says what its further columns are."""

    table: str
    version: int
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    aligned: bool = False
    dynamic: str = ""
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(c.name for c in self.columns))

    def arrow_schema(self, extra: Sequence[pa.Field] = (), vector_bytes: int = 0) -> pa.Schema:
        """Return the Arrow schema; `vector_bytes` is the byte width of a vector column."""
        vector = pa.binary(vector_bytes) if vector_bytes else pa.binary()
        return pa.schema([*(c.arrow_field(vector) for c in self.columns), *extra])

    def spark_ddl(self) -> str:
        """Return the Spark DDL of the fixed columns."""
        return ", ".join(
            f"{c.name} {_ddl_type(c.type)}" + ("" if c.nullable else " NOT NULL")
            for c in self.columns
        )

    def conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return `batch` in contract order and types, documented and checked.

        Raises:
            ContractError: a column is missing, of another type, or breaks a check.
        """
        extra = [f for f in batch.schema if f.name not in self.names]
        if extra and not self.dynamic:
            raise self._error(f"unknown columns {[f.name for f in extra]}")
        arrays, fields = [], []
        for column in self.columns:
            if column.optional and column.name not in batch.schema.names:
                continue
            values = self._column(batch, column)
            arrays.append(values)
            fields.append(column.arrow_field(values.type))
        for extra_field in extra:
            if extra_field.type not in _DYNAMIC_TYPES:
                raise self._error(f"column {extra_field.name!r} has type {extra_field.type}")
            arrays.append(batch.column(extra_field.name))
            fields.append(extra_field)
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _column(self, batch: pa.RecordBatch, column: Column) -> pa.Array:
        index = batch.schema.get_field_index(column.name)
        if index < 0:
            raise self._error(f"column {column.name!r} is missing; found {batch.schema.names}")
        values = batch.column(index)
        if column.type == "vector":
            if not pa.types.is_fixed_size_binary(values.type):
                raise self._error(f"column {column.name!r} is {values.type}, not fixed-size bytes")
        elif values.type != _arrow_type(column.type):
            try:
                values = values.cast(_arrow_type(column.type))
            except pa.ArrowInvalid as error:
                raise self._error(f"column {column.name!r}: {error}") from error
        fault = column.faults(values)
        if fault:
            raise self._error(f"column {column.name!r}: {fault}")
        return values

    def _error(self, what: str) -> ContractError:
        return ContractError(f"Table {self.table!r}: {what}. Its contract is in schemas/.")


@lru_cache(maxsize=1)
def contracts() -> dict[str, Contract]:
    """Return every contract of `schemas/`, in flow order."""
    found = {}
    for path in sorted(resource_dir("schemas").glob("*.yaml")):
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        columns = tuple(
            Column(
                name=c["name"],
                type=c["type"],
                doc=c["doc"],
                nullable=c.get("nullable", True),
                unit=c.get("unit", ""),
                values=tuple(c.get("values", ())),
                low=c.get("min"),
                high=c.get("max"),
                optional=c.get("optional", False),
            )
            for c in spec["columns"]
        )
        found[spec["table"]] = Contract(
            table=spec["table"],
            version=spec["version"],
            grain=spec["grain"],
            key=tuple(spec["key"]),
            columns=columns,
            aligned=spec.get("aligned", False),
            dynamic=spec.get("dynamic", ""),
        )
    return found


def contract(table: str) -> Contract:
    """Return the contract of `table`; a member of a family (`embeddings.semantic`) has the family's.

    Raises:
        ContractError: no such table; the message lists the valid ones.
    """
    known = contracts()
    family = TableName(table).contract
    if family not in known:
        raise ContractError(f"No table {table!r}. Valid tables: {', '.join(known)}.")
    return known[family]
