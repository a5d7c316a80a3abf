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
    """A committed table version."""

    store: Store
    manifest: Manifest

    @property
    def fragments(self) -> dict[str, Fragment]:
        """The fragments by name, in order."""
        return {r.name: Fragment(self.store, r) for r in self.manifest.fragments}

    @property
    def rows(self) -> int:
        """Rows of the table."""
        return self.manifest.rows

    @property
    def content(self) -> str:
        """Digest of what the table holds."""
        return self.manifest.content

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the whole table, or some columns of it."""
        parts = [f.read(columns) for f in self.fragments.values()]
        if not parts:
            empty = contract(self.manifest.table).arrow_schema().empty_table()
            return empty if columns is None else empty.select(list(columns))
        return pa.concat_tables(parts)

    def paths(self) -> list[str]:
        """Return the addresses of the committed Parquet files."""
        return [self.store.address(f.path) for r in self.manifest.fragments for f in r.files]


def open_table(store: Store, name: str, version: str | None = None) -> Table:
    """Return a committed table.

    Raises:
        StoreError: it has no committed version; the message lists the tables that have.
    """
    manifest = store.manifest(name, version)
    if manifest is None:
        found = ", ".join(store.tables()) or "none yet"
        raise StoreError(
            f"The store {store.uri} has no committed table {name!r}. Committed: {found}. "
            "Run the stage that writes it (curation plan RECIPE shows which)."
        )
    return Table(store, manifest)
