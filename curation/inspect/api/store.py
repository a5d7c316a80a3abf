"""`curation.open`: the current tables of a recipe in a store, for notebooks and scripts."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.inspect.api.table import StoredTable
from curation.inspect.api.versions import TableVersion, list_versions
from curation.inspect.current import CurrentTables
from curation.inspect.embeddings import Embeddings, read_vectors, vector_batches
from curation.media.encoders.params import EMBEDDINGS
from curation.store.store import Store
from curation.terminal import visible

if TYPE_CHECKING:
    import duckdb

    from curation.inspect.api.sql import SqlSession
    from curation.inspect.why.explain import Why

logger = logging.getLogger(__name__)


class OpenStore:
    """The current tables of a recipe in a store. Nothing is read before it is asked for.

    Args:
        path: folder or URI of the store.
        recipe: name of a recipe, or the path of its file. The default is the one recipe of the store.
        run: a run, or the beginning of its name. The default is the latest finished run of the recipe.

    Raises:
        StoreError: see `find_current`.
    """

    def __init__(
        self, path: str | Path, recipe: str | Path | None = None, run: str | None = None
    ) -> None:
        # A Path is a file, also if it has no ending by which its text would be one.
        named = str(recipe.absolute()) if isinstance(recipe, Path) else recipe
        self._current = CurrentTables(Store(path), named, run)
        self._session: SqlSession | None = None
        self._warnings: set[str] = set()

    @property
    def address(self) -> str:
        """Absolute path or URI of the store."""
        return self._current.store.uri

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return self._current.recipe

    @property
    def run(self) -> str:
        """Name of the run that decides which versions are current."""
        return self._current.run

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(self._current)

    def table(self, name: str, version: str | None = None) -> StoredTable:
        """Return a table in its current version.

        Args:
            name: of the table, such as `copies` or `embeddings.semantic`.
            version: another version, or the beginning of its name.

        Raises:
            StoreError: there is no such table or version; the message lists what there is.
        """
        current = self._look_again()
        if version is None:
            run = current.run_of(name)
            return StoredTable(current[name], run, self._session_of_now)
        table = open_table(current.store, current.check(name), version)
        return StoredTable(table, "", self._session_of_now)

    def versions(self, table: str | None = None) -> list[TableVersion]:
        """Return the current version of each table, or all versions of one table, the latest first.

        `pandas.DataFrame(store.versions())` shows them as a table.

        Args:
            table: the one table.

        Raises:
            StoreError: there is no such table.
        """
        return list_versions(self._current, table)

    def vectors(self, encoder: str, memmap: str | Path | None = None) -> Embeddings:
        """Return the vectors that an encoder made, with the ids of their rows as the tables have them.

        Args:
            encoder: its name in the recipe, such as `semantic`.
            memmap: a .npy file to write the vectors to, for more vectors than fit into memory. It is
                then mapped into memory.

        Raises:
            StoreError: there are no such vectors, or one of their files is damaged.
        """
        return read_vectors(self._look_again()[EMBEDDINGS.table(encoder)], memmap)

    def vector_batches(self, encoder: str, rows: int = 65_536) -> Iterator[Embeddings]:
        """Yield the same as `vectors`, at most `rows` at a time."""
        return vector_batches(self._look_again()[EMBEDDINGS.table(encoder)], rows)

    def sql(self, query: str, params: Any = None) -> duckdb.DuckDBPyRelation:
        """Run a query of DuckDB on the current tables; its rows are computed when they are fetched.

        Each table is a view: `copies`, `embeddings.semantic`. Vectors are `FLOAT[n]`. A query can read
        these views and nothing else, and change nothing. A warning says if it names tables that were
        made from different versions of another table.

        Args:
            query: the SQL.
            params: values of `?` or `$name` in it.

        Returns:
            A relation: `.to_df()`, `.pl()`, `.to_arrow_table()`, `.fetchall()`.

        Raises:
            QueryError: DuckDB refuses the query.
        """
        session = self._session_of_now()
        self._warn_of_mixture(session.named(query))
        return session.query(query, params)

    def _look_again(self) -> CurrentTables:
        """Return the current tables, without what was taken down since the store was opened."""
        if self._current.look_again():
            # The views of the session still show these rows.
            self.close()
        return self._current

    def _session_of_now(self) -> SqlSession:
        self._look_again()
        return self.session

    def _warn_of_mixture(self, names: Sequence[str]) -> None:
        """Warn once if a query names tables that were made from different versions of another one."""
        try:
            self._current.check_together("This query", names)
        except StoreError as error:
            if str(error) not in self._warnings:
                logger.warning("%s", error)
            self._warnings.add(str(error))

    def why(self, what: str | Path) -> Why:
        """Return what became of a row in every stage, and why.

        Args:
            what: a pair_id, image_id, SHA-256, URL, key of the source, or the path of an image file.

        Raises:
            StoreError: a table is missing or damaged.
        """
        from curation.inspect.why.explain import explain

        return explain(self._look_again(), what)

    @property
    def session(self) -> SqlSession:
        """Where SQL is run; it is opened when it is first used."""
        if self._session is None:
            from curation.inspect.api.sql import SqlSession

            self._session = SqlSession(self._current)
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

        return store_page(self._current, self.versions())
