"""The programs that open a table by its folder, each as its users call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pytest
from pyiceberg.table import StaticTable

Rows = list[dict[str, Any]]


def with_pyiceberg(folder: str) -> Rows:
    rows: Rows = StaticTable.from_metadata(folder).scan().to_arrow().to_pylist()
    return rows


def with_polars(folder: str) -> Rows:
    rows: Rows = polars.scan_iceberg(folder).collect().to_arrow().to_pylist()
    return rows


def with_pandas(folder: str) -> Rows:
    frame = StaticTable.from_metadata(folder).scan().to_pandas()
    assert isinstance(frame, pd.DataFrame)
    rows: Rows = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
    return rows


def with_pyiceberg_and_duckdb(folder: str) -> Rows:
    connection = StaticTable.from_metadata(folder).scan().to_duckdb("opened")
    rows: Rows = connection.sql("FROM opened").to_arrow_table().to_pylist()
    return rows


def with_duckdb(folder: str) -> Rows:
    connection = duckdb.connect()
    try:
        import duckdb_extension_avro  # type: ignore[import-not-found]
        import duckdb_extension_iceberg  # type: ignore[import-not-found]
    except ImportError:
        pytest.skip("DuckDB reads Iceberg with an extension, which has no wheel here")
    for module in (duckdb_extension_avro, duckdb_extension_iceberg):
        (file,) = Path(module.__path__[0]).rglob("*.duckdb_extension")
        try:
            connection.load_extension(str(file))
        except duckdb.Error as error:
            pytest.skip(f"the extension's wheel does not fit DuckDB {duckdb.__version__}: {error}")
    rows: Rows = (
        connection.sql("FROM iceberg_scan(?)", params=[folder]).to_arrow_table().to_pylist()
    )
    return rows


BY_PYICEBERG = ("pyiceberg", "pandas", "pyiceberg_and_duckdb")


def as_read(reader: str, rows: Rows) -> Rows:
    """Return rows as a reader returns them.

    PyIceberg 0.12 makes an empty list of a list of structs that is null (its issue 3833).
    """
    if reader not in BY_PYICEBERG:
        return rows
    lists = {name for row in rows for name, value in row.items() if _holds_structs(value)}
    return [row | {name: row[name] or [] for name in lists} for row in rows]


def _holds_structs(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


READERS: dict[str, Callable[[str], Rows]] = {
    reader.__name__.removeprefix("with_"): reader
    for reader in (
        with_pyiceberg,
        with_polars,
        with_pandas,
        with_pyiceberg_and_duckdb,
        with_duckdb,
    )
}
