"""A version of a table, as pyarrow, pandas, Polars or DuckDB have tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.engine.contract import contract
from curation.engine.table import Table
from curation.errors import CurationError, Detail, StoreError
from curation.inspect.api.columns import stored_schema, with_floats
from curation.store.withheld import withheld_rows
from curation.terminal import visible

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import polars as pl

    from curation.inspect.api.sql import SqlSession

SHOWN_ROWS = 10


class StoredTable:
    """One version of a table of a store. Nothing is read before a method returns rows.

    Vectors are lists of float32 in all forms. Rows that were taken down are left out.

    Args:
        table: the version.
        run: name of the run by which the version was chosen; empty for none.
        session: returns where SQL is run.
    """

    def __init__(self, table: Table, run: str, session: Callable[[], SqlSession]) -> None:
        self._opened, self.run, self._session = table, run, session

    @property
    def _table(self) -> Table:
        """The version, without what was taken down since it was opened."""
        store = self._opened.store
        store.takedowns(reload=True)
        withheld = withheld_rows(store, self._opened.manifest)
        self._opened = replace(self._opened, withheld=withheld)
        return self._opened

    @property
    def name(self) -> str:
        """Name of the table."""
        return self._opened.manifest.table

    @property
    def version(self) -> str:
        """The version."""
        return self._opened.manifest.version

    @property
    def rows(self) -> int:
        """Number of rows, with those that were taken down since."""
        return self._opened.rows

    @property
    def grain(self) -> str:
        """What one row represents."""
        return contract(self.name).grain

    @property
    def stats(self) -> dict[str, Any]:
        """What the stage that wrote the table measured."""
        return self._opened.manifest.stats

    @property
    def schema(self) -> pa.Schema:
        """The columns, with their documentation as metadata. The first file is opened.

        Raises:
            StoreError: that file has vanished or is damaged.
        """
        return with_floats(self._stored_schema.empty_table(), self.name).schema

    @property
    def columns(self) -> list[str]:
        """The names of the columns. The first file is opened."""
        return list(self._stored_schema.names)

    @property
    def _stored_schema(self) -> pa.Schema:
        # Columns are the same whatever was taken down.
        return stored_schema(self._opened)

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows as a pyarrow table.

        Args:
            columns: those to read; None reads all, with the pictures of table `images`.

        Raises:
            StoreError: a file has vanished or is damaged, or there is no such column.
        """
        names = self._checked(columns)
        return with_floats(self._table.read(names), self.name)

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most `rows` at a time; one row group is in memory.

        Args:
            columns: those to read; None reads all.
            rows: largest number of rows in a batch.

        Raises:
            StoreError: as `arrow`, once the damaged place is reached.
        """
        names = self._checked(columns)
        for fragment in self._table.fragments.values():
            for batch in fragment.batches(names, rows):
                yield from with_floats(batch, self.name).to_batches()

    def pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows as a pandas DataFrame. For arguments and errors see `arrow`."""
        frame: pd.DataFrame = self.arrow(columns).to_pandas()
        return frame

    def polars(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return all rows as a Polars DataFrame. For arguments see `arrow`.

        Raises:
            CurationError: Polars is not installed.
            StoreError: see `arrow`.
        """
        try:
            import polars
        except ImportError as error:
            raise CurationError(
                "Polars is not installed",
                fix="Install it (pip install polars), or use .arrow(), .pandas() or .duckdb()",
            ) from error
        frame = polars.from_arrow(self.arrow(columns))
        assert isinstance(frame, polars.DataFrame)
        return frame

    def duckdb(self) -> duckdb.DuckDBPyRelation:
        """Return the table as a relation of DuckDB, which reads only what a query on it needs."""
        return self._session().relation(self._table)

    def head(self, rows: int = SHOWN_ROWS) -> pa.Table:
        """Return the first rows, without reading the others; pictures are left out.

        Args:
            rows: how many; a negative number is 0.
        """
        names = [f.name for f in self._stored_schema if not pa.types.is_binary(f.type)]
        parts, left = [], min(max(rows, 0), self.rows)
        for batch in self.batches(names, max(left, 1)):
            parts.append(batch.slice(0, left))
            left -= parts[-1].num_rows
            if left <= 0:
                break
        return pa.Table.from_batches(parts) if parts else self.schema.empty_table().select(names)

    def _checked(self, columns: Sequence[str] | None) -> list[str] | None:
        if columns is None:
            return None
        if isinstance(columns, str):
            raise TypeError(f"columns is a list of names; give [{columns!r}]")
        valid = self.columns
        for name in columns:
            if name not in valid:
                message = f"Table {self.name!r} has no column {name!r}"
                raise StoreError(Detail(message, "", name, list(valid)))
        return list(columns)

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return visible(
            f"<table {self.name} version {self.version[:12]}: {self.rows:,} rows{self._taken_down}, "
            f"{self.grain}>"
        )

    def _repr_html_(self) -> str:
        from curation.inspect.api.page import table_page

        rows = f"{self.rows:,} rows{self._taken_down}"
        return table_page(self.name, self.grain, self.version, self.head(), rows)

    @property
    def _taken_down(self) -> str:
        """What is said beside the number of rows."""
        return "" if self._table.withheld is None else " (with rows that were taken down)"
