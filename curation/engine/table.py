"""Committed versions of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.manifest import Manifest
from curation.engine.store import Store
from curation.errors import StoreError


@dataclass(frozen=True)
class Table:
    """A committed version of a table. It never changes."""

    store: Store
    manifest: Manifest

    @property
    def fragments(self) -> dict[str, Fragment]:
        """The fragments by name, in order."""
        return {r.name: Fragment(self.store, r) for r in self.manifest.fragments}

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.manifest.rows

    @property
    def content(self) -> str:
        """Digest of the content of the table."""
        return self.manifest.content

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, with all columns or the named ones.

        Raises:
            StoreError: a file has vanished or is damaged.
        """
        tables = [f.read(columns) for f in self.fragments.values()]
        if not tables:
            empty = contract(self.manifest.table).arrow_schema().empty_table()
            return empty if columns is None else empty.select(list(columns))
        return pa.concat_tables(tables)

    def paths(self) -> list[str]:
        """Return the addresses of the Parquet files: local paths or URIs."""
        return [self.store.address(f.path) for r in self.manifest.fragments for f in r.files]


def open_table(store: Store, name: str, version: str | None = None) -> Table:
    """Return the current version of a table, or the named one.

    Raises:
        StoreError: there is no such committed version; the message lists the tables that have one.
    """
    manifest = store.manifest(name, version)
    if manifest is None and version is None and name in store.tables():
        raise StoreError(
            f"The table {name!r} of the store {store.uri} was written by another version of curation. "
            "Run the recipe again, which computes it anew."
        )
    if manifest is None:
        committed = ", ".join(store.tables()) or "none yet"
        raise StoreError(
            f"The store {store.uri} has no committed table {name!r}. Committed: {committed}. "
            "Run the stage that writes it (curation plan RECIPE shows which)."
        )
    return Table(store, manifest)
