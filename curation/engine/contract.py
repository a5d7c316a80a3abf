"""Contracts: what each table of the flow holds, as the files of `schemas/` say.

The Arrow schema of a table follows from its contract. `FragmentWriter` checks each batch against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from curation.engine.column_types import VECTOR, Type, arrow_type
from curation.engine.resources import resource_dir
from curation.engine.schema_file import ColumnSpec, TableSpec, read_schema_file
from curation.engine.table_name import TableName
from curation.errors import ContractError, Detail, unknown

_DYNAMIC_TYPES = (pa.float32(), pa.float64(), pa.int32(), pa.int64(), pa.bool_(), pa.string())


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    Attributes:
        values: every value that is allowed, empty where any is.
        low: smallest value that is allowed, None for no bound.
        high: largest value that is allowed, None for no bound.
        optional: whether the whole column may be absent.
    """

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
        """Return the Arrow field with its documentation as metadata.

        Args:
            actual: the type of the values, which a vector keeps: its width is known from them alone.
        """
        column_type = actual if self.type == VECTOR else arrow_type(self.type)
        metadata = {"doc": self.doc} | ({"unit": self.unit} if self.unit else {})
        return pa.field(self.name, column_type, nullable=self.nullable, metadata=metadata)

    def problem(self, values: pa.Array) -> str | None:
        """Return which check the values break, and how, or None."""
        if not self.nullable and values.null_count:
            return f"found {values.null_count} null values, none is allowed"
        if self.values:
            unknown = set(pc.unique(values).to_pylist()) - {None, *self.values}
            if unknown:
                return f"found {sorted(unknown)}, valid are {list(self.values)}"
        if (self.low is None and self.high is None) or len(values) == values.null_count:
            return None
        span = pc.min_max(values).as_py()
        if self.low is not None and span["min"] < self.low:
            return f"found {span['min']}, the minimum is {self.low}"
        if self.high is not None and span["max"] > self.high:
            return f"found {span['max']}, the maximum is {self.high}"
        return None


@dataclass(frozen=True)
class Contract:
    """What a table promises.

    Attributes:
        table: name of the table, or of the family of tables.
        version: raised whenever columns change; part of every memo of the table.
        grain: what one row represents.
        key: the columns that identify a row.
        columns: the fixed columns, in their published order.
        aligned: whether fragments hold the same rows in the same order as those of `images`.
        dynamic: what further columns mean; empty if there may be none.
        names: the names of the fixed columns.
    """

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

    def arrow_schema(self, extra: Sequence[pa.Field] = ()) -> pa.Schema:
        """Return the Arrow schema; it leaves the width of vectors open.

        Args:
            extra: fields of further columns, for a table with `dynamic` ones.
        """
        return pa.schema([*(c.arrow_field(pa.binary()) for c in self.columns), *extra])

    def conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a batch with its columns in the order and types of the contract, and documented.

        Raises:
            ContractError: a column is missing, unknown or of another type, or breaks a check.
        """
        extra = [f for f in batch.schema if f.name not in self.names]
        if extra and not self.dynamic:
            names = [f.name for f in extra]
            raise self._error(f"unknown columns {', '.join(names)}", self.names)
        arrays, fields = [], []
        for column in self.columns:
            if column.optional and column.name not in batch.schema.names:
                continue
            values = self._checked_column(batch, column)
            arrays.append(values)
            fields.append(column.arrow_field(values.type))
        for extra_field in extra:
            if extra_field.type not in _DYNAMIC_TYPES:
                raise self._error(
                    f"column {extra_field.name!r} has type {extra_field.type}",
                    [str(kind) for kind in _DYNAMIC_TYPES],
                )
            arrays.append(batch.column(extra_field.name))
            fields.append(extra_field)
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _checked_column(self, batch: pa.RecordBatch, column: Column) -> pa.Array:
        index = batch.schema.get_field_index(column.name)
        if index < 0:
            raise self._error(f"column {column.name!r} is missing; found {batch.schema.names}")
        values = batch.column(index)
        if column.type == VECTOR:
            if not pa.types.is_fixed_size_binary(values.type):
                raise self._error(f"column {column.name!r} is {values.type}, not fixed-size bytes")
        elif values.type != arrow_type(column.type):
            try:
                values = values.cast(arrow_type(column.type))
            except pa.ArrowInvalid as error:
                raise self._error(f"column {column.name!r}: {error}") from error
        problem = column.problem(values)
        if problem:
            raise self._error(f"column {column.name!r}: {problem}")
        return values

    def _error(self, problem: str, valid: Sequence[str] = ()) -> ContractError:
        fix = "Mend the stage that writes it, or its contract in schemas/"
        return ContractError(Detail(problem, f"table {self.table!r}", valid=tuple(valid), fix=fix))


def read_contracts(folder: Path) -> dict[str, Contract]:
    """Read the contract of each file of a folder, in the order of file names.

    Raises:
        ContractError: a file is not valid (see `read_schema_file`), or two describe the same table.
    """
    specs: dict[str, TableSpec] = {}
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yaml")):
        spec = read_schema_file(path)
        if spec.table in specs:
            raise ContractError(
                f"{files[spec.table]} and {path} both describe table {spec.table!r}",
                fix="Delete one of the two files, or give one another `table`",
            )
        specs[spec.table], files[spec.table] = spec, path
    return {table: _contract_from(spec) for table, spec in specs.items()}


def _contract_from(spec: TableSpec) -> Contract:
    return Contract(
        table=spec.table,
        version=spec.version,
        grain=spec.grain,
        key=tuple(spec.key),
        columns=tuple(_column_from(column) for column in spec.columns),
        aligned=spec.aligned,
        dynamic=spec.dynamic,
    )


def _column_from(spec: ColumnSpec) -> Column:
    return Column(
        name=spec.name,
        type=spec.type,
        doc=spec.doc,
        nullable=spec.nullable,
        unit=spec.unit,
        values=tuple(spec.values),
        low=spec.min,
        high=spec.max,
        optional=spec.optional,
    )


@lru_cache(maxsize=1)
def contracts() -> dict[str, Contract]:
    """Return every contract of `schemas/` by table, in flow order; the files are read once.

    Raises:
        ContractError: a file is not valid; the message names it, the column and what is valid.
    """
    return read_contracts(resource_dir("schemas"))


def contract(table: str) -> Contract:
    """Return the contract of a table. A member of a family has the family's: that of `embeddings` is
    the contract of `embeddings.semantic`.

    Raises:
        ContractError: there is no such table; the message lists the valid ones.
    """
    by_table = contracts()
    name = TableName(table).contract
    if name not in by_table:
        raise ContractError(unknown("table", table, by_table))
    return by_table[name]
