"""Reads the files of `schemas/` and refuses one whose keys, types or values are not valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from curation.engine.column_types import NUMBERS, type_problem
from curation.errors import ContractError, Detail, unknown


class _Model(BaseModel):
    """Refuses unknown keys, and values of another type: the text `"1"` is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ColumnSpec(_Model):
    """One entry of `columns`.

    Attributes:
        name: published name of the column.
        type: one of `column_types.VALID_TYPES`, a list or a struct.
        doc: what the column holds, for readers of the table.
        nullable: whether values may be missing.
        unit: unit of the values, if they have one.
        values: every value that is allowed, if they are limited (`string` only).
        min: smallest value that is allowed (numbers only).
        max: largest value that is allowed (numbers only).
        optional: whether the whole column may be absent.
    """

    name: str = Field(min_length=1)
    type: Any
    doc: str = Field(min_length=1)
    nullable: bool = True
    unit: str = ""
    values: list[str] = []
    min: int | float | None = None
    max: int | float | None = None
    optional: bool = False

    @field_validator("type")
    @classmethod
    def _valid_type(cls, declared: Any) -> Any:
        problem = type_problem(declared)
        if problem:
            raise ValueError(problem)
        return declared

    @model_validator(mode="after")
    def _checks_fit_the_type(self) -> ColumnSpec:
        if self.values and self.type != "string":
            raise ValueError(f"`values` is for type string; the type is {self.type!r}")
        bounded = self.min is not None or self.max is not None
        if bounded and self.type not in NUMBERS:
            raise ValueError(
                f"`min` and `max` are for types {', '.join(NUMBERS)}; the type is {self.type!r}"
            )
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` {self.min} is greater than `max` {self.max}")
        return self


class TableSpec(_Model):
    """One file of `schemas/`.

    Attributes:
        table: name of the table, or of the family of tables.
        version: raised whenever columns change.
        grain: what one row represents.
        key: the columns that identify a row.
        columns: the columns in their published order.
        aligned: whether fragments hold the same rows in the same order as those of `images`.
        dynamic: what further columns mean, if the table may have any.
    """

    table: str = Field(min_length=1)
    version: int = Field(ge=1)
    grain: str = Field(min_length=1)
    key: list[str] = Field(min_length=1)
    columns: list[ColumnSpec] = Field(min_length=1)
    aligned: bool = False
    dynamic: str = ""

    @model_validator(mode="after")
    def _names_fit(self) -> TableSpec:
        names = Counter(column.name for column in self.columns)
        repeated = [name for name, times in names.items() if times > 1]
        if repeated:
            raise ValueError(f"`columns` names {', '.join(repeated)} more than once")
        unknown = [name for name in self.key if name not in names]
        if unknown:
            raise ValueError(
                f"`key` names {', '.join(unknown)}, no column of the table. Valid: {', '.join(names)}"
            )
        return self


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader; the one in C takes a tenth of the time."""


def read_schema_file(path: Path) -> TableSpec:
    """Read one file.

    Raises:
        ContractError: the file is no YAML mapping, or a key, a type or a value is not valid; the
            message names the file, the column, what was found and what is valid.
    """
    try:
        spec = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except yaml.YAMLError as error:
        message = f"not YAML: {error}"
        raise ContractError(Detail(message, str(path), fix="Mend the file")) from error
    if not isinstance(spec, dict):
        keys = tuple(TableSpec.model_fields)
        message = f"the file holds {type(spec).__name__}, and not a mapping with keys"
        raise ContractError(Detail(message, str(path), valid=keys))
    try:
        return TableSpec.model_validate(spec)
    except ValidationError as error:
        raise ContractError(*_details(error, spec), within=str(path)) from error


def _details(error: ValidationError, spec: dict[str, Any]) -> Iterator[Detail]:
    """Yield a detail for each problem."""
    for problem in error.errors():
        place, model, keys = _place(problem["loc"], spec)
        key = keys[-1] if keys else None
        if problem["type"] == "extra_forbidden":
            yield unknown("key", key, model.model_fields, place)
            continue
        if problem["type"] == "missing":
            message = f"key {key!r} is missing"
        elif problem["type"] == "value_error":
            message = problem["msg"].removeprefix("Value error, ")
        else:
            message = f"{problem['msg']}, found {problem['input']!r}"
            message = f"{'.'.join(map(str, keys))}: {message}" if keys else message
        yield Detail(message, place)


def _place(
    loc: tuple[int | str, ...], spec: dict[str, Any]
) -> tuple[str, type[_Model], tuple[int | str, ...]]:
    """Return where a problem is, in words, the model of that place, and the keys within it."""
    if len(loc) < 2 or loc[0] != "columns":
        return "table", TableSpec, loc
    column = spec["columns"][loc[1]]
    name = column.get("name") if isinstance(column, dict) else None
    return f"column {name!r}" if name else f"column {int(loc[1]) + 1}", ColumnSpec, loc[2:]
