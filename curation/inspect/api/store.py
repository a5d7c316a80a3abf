"""`curation.open`: the current tables of a recipe in a store, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.engine.registry import did_you_mean
from curation.engine.table import Table, open_table
from curation.errors import StoreError
from curation.inspect.api.current import find_current
from curation.inspect.api.table import StoredTable
from curation.inspect.embeddings import Embeddings, read_vectors, vector_batches
from curation.media.encoders.params import EMBEDDINGS
from curation.store.run_log import read_runs
from curation.store.store import Store, in_parallel
from curation.terminal import visible

if TYPE_CHECKING:
    import duckdb

    from curation.inspect.api.sql import SqlSession
    from curation.inspect.why.explain import Why


@dataclass(frozen=True)
class TableVersion:
    """What the manifest of one version of a table records.

    Attributes:
        table: name of the table.
        version: the version.
        run: the latest run that has it; None if no run has it any more.
        created: time in UTC, ISO 8601.
        stage: the stage that wrote it.
        rows: number of rows.
        fragments: number of fragments.
        bytes: size of its files; None in manifests of before this was recorded.
        seconds: how long the stage worked in the run that wrote it; None as for `bytes`.
    """

    table: str
    version: str
    run: str | None
    created: str
    stage: str
    rows: int
    fragments: int
    bytes: int | None
    seconds: float | None


class OpenStore:
    """The current tables of a recipe in a store. Nothing is read before it is asked for.

    Args:
        path: folder or URI of the store.
        recipe: name of a recipe, or the path of its file. The default is the one recipe of the store.
        run: a run, or how its name begins. The default is the latest finished run of the recipe.

    Raises:
        StoreError: see `find_current`.
    """

    def __init__(self, path: str | Path, recipe: str | None = None, run: str | None = None) -> None:
        self._store = Store(path)
        self._current = find_current(self._store, recipe, run)
        self._opened: dict[str, Table] = {}
        self._session: SqlSession | None = None

    @property
    def address(self) -> str:
        """Absolute path or URI of the store."""
        return self._store.uri

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self._current.recipe

    @property
    def run(self) -> str:
        """Name of the run that decides which versions are current."""
        return self._current.run.run

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(self._current.runs)

    def table(self, name: str, version: str | None = None) -> StoredTable:
        """Return a table in its current version.

        Args:
            name: of the table, such as `copies` or `embeddings.semantic`.
            version: another version, or how its name begins.

        Raises:
            StoreError: there is no such table or version; the message lists what there is.
        """
        if version is None:
            run = self._current.runs[name].run if name in self._current.runs else ""
            return StoredTable(self.open_table(name), run, lambda: self.session)
        self._check(name)
        return StoredTable(open_table(self._store, name, version), "", lambda: self.session)

    def open_table(self, name: str) -> Table:
        """Return the current version of a table as the package itself reads it; see `table`."""
        self._check(name)
        if name not in self._opened:
            self._opened[name] = open_table(self._store, name, self._current.version(name))
        return self._opened[name]

    def versions(self, table: str | None = None) -> list[TableVersion]:
        """Return the current version of each table, or all versions of one table, the latest first.

        `pandas.DataFrame(store.versions())` shows them as a table.

        Args:
            table: the one table.

        Raises:
            StoreError: there is no such table.
        """
        if table is not None:
            self._check(table)
            listed = [(table, version) for version in self._store.versions(table)]
        else:
            listed = [(name, self._current.version(name)) for name in self.tables]
        latest = self._latest_runs()
        headers = in_parallel(lambda entry: self._store.header(*entry), listed)
        return [
            TableVersion(
                *entry,
                latest.get(entry),
                *(header[key] for key in ("created", "stage", "rows", "fragments")),
                header.get("bytes"),
                header.get("seconds"),
            )
            for entry, header in zip(listed, headers, strict=True)
            if header is not None
        ]

    def vectors(self, encoder: str, memmap: str | Path | None = None) -> Embeddings:
        """Return the vectors that an encoder made, with the ids of their rows as the tables have them.

        Args:
            encoder: its name in the recipe, such as `semantic`.
            memmap: a .npy file to write the vectors to, for more vectors than fit into memory; it is then
                mapped into memory.

        Raises:
            StoreError: there are no such vectors, or one of their files is damaged.
        """
        return read_vectors(self.open_table(EMBEDDINGS.table(encoder)), memmap)

    def vector_batches(self, encoder: str, rows: int = 65_536) -> Iterator[Embeddings]:
        """Yield the same as `vectors`, at most `rows` at a time."""
        return vector_batches(self.open_table(EMBEDDINGS.table(encoder)), rows)

    def sql(self, query: str, params: Any = None) -> duckdb.DuckDBPyRelation | None:
        """Run a query of DuckDB on the current tables; its rows are computed when they are fetched.

        Each table is a view: `copies`, `embeddings.semantic`. Vectors are `FLOAT[n]`. A query can read
        these views and nothing else, and change nothing.

        Args:
            query: the SQL.
            params: values of `?` or `$name` in it.

        Returns:
            A relation: `.df()`, `.pl()`, `.arrow()`, `.fetchall()`; None for a statement without rows.

        Raises:
            QueryError: DuckDB refuses the query.
        """
        return self.session.query(query, params)

    def why(self, what: str | Path) -> Why:
        """Return what became of a row in every stage, and why.

        Args:
            what: a pair_id, image_id, SHA-256, URL, key of the source, or the path of an image file.

        Raises:
            StoreError: a table is missing or damaged.
        """
        from curation.inspect.why.explain import explain

        return explain(self, what)

    @property
    def store(self) -> Store:
        """The store as the package itself reads it."""
        return self._store

    def step_of(self, table: str) -> str | None:
        """Return the fingerprint of the step that wrote the current version of a table."""
        record = self._current.runs.get(table)
        return None if record is None else record.steps.get(table)

    @property
    def session(self) -> SqlSession:
        """Where SQL is run; it is opened when it is first used."""
        if self._session is None:
            from curation.inspect.api.sql import SqlSession

            self._session = SqlSession(self.tables, self.open_table)
        return self._session

    def close(self) -> None:
        """Close the connection to DuckDB, if one was opened."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> OpenStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return visible(
            f"<store {self.address}: recipe {self.recipe}, run {self.run}, {len(self.tables)} tables>"
        )

    def _repr_html_(self) -> str:
        from curation.inspect.api.page import store_page

        return store_page(self)

    def _latest_runs(self) -> dict[tuple[str, str], str]:
        latest: dict[tuple[str, str], str] = {}
        for record in read_runs(self._store):
            for entry in record.tables.items():
                latest.setdefault(entry, record.run)
        return latest

    def _check(self, name: str) -> None:
        if name in self._current.runs:
            return
        hint = did_you_mean(name, self.tables)
        raise StoreError(
            f"Recipe {self.recipe!r} in {self.address} has no table {name!r}{hint}. Its tables: "
            f"{', '.join(self.tables)}. `curation plan RECIPE` shows the stage that writes each."
        )
