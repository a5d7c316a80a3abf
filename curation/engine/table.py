"""Committed versions of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from curation.engine.contract import contract
from curation.errors import Detail, StoreError, TakenDownError
from curation.store.fragment import Fragment, concatenated
from curation.store.manifest import Manifest
from curation.store.run_log import find_run, latest_run, read_runs
from curation.store.run_record import RunRecord
from curation.store.store import Store
from curation.store.withheld import Withheld, withheld_rows


@dataclass(frozen=True)
class Table:
    """A committed version of a table. It never changes.

    Attributes:
        store: where it is.
        manifest: of the version.
        withheld: rows that no reader gets, because they were taken down; None for none.
    """

    store: Store
    manifest: Manifest
    withheld: Withheld | None = None

    def __reduce__(self) -> tuple[type[Table], tuple[Store, Manifest, Withheld | None]]:
        # Without what is cached.
        return Table, (self.store, self.manifest, self.withheld)

    @cached_property
    def fragments(self) -> Mapping[str, Fragment]:
        """The fragments by name, in order."""
        return {r.name: Fragment(self.store, r, self.withheld) for r in self.manifest.fragments}

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
        # One without rows may have no file.
        tables = [f.read(columns) for f in self.fragments.values() if f.record.files]
        if not tables:
            empty = contract(self.manifest.table).arrow_schema().empty_table()
            return empty if columns is None else empty.select(list(columns))
        return concatenated(tables, self.store, self.manifest.table)

    def paths(self) -> list[str]:
        """Return the addresses of the Parquet files: local paths or URIs."""
        return [self.store.address(f.path) for f in self.manifest.files]


def open_table(
    store: Store, name: str, version: str | None = None, run: str | None = None
) -> Table:
    """Return a version of a table.

    Args:
        store: where it is.
        name: name of the table.
        version: which one, or the beginning of its name. The default is that of `run`.
        run: a run, or the beginning of its name. The default is the latest finished run that has the
            table.

    Raises:
        StoreError: there is no such version; the message lists what there is.
    """
    is_prefix = version is not None
    if version is None:
        record = find_run(store, run) if run else latest_run(store, name)
        version = record.tables.get(name) if record else None
        if version is None:
            raise StoreError(_missing(store, name, record if run else None))
    manifest = store.manifest(name, version)
    if manifest is None and is_prefix:
        version = _matching(store, name, version)
        manifest = store.manifest(name, version)
    if manifest is None:
        raise StoreError(
            f"The manifest of version {version} of table {name!r} in {store.uri} is missing, "
            "damaged, or was written by another version of curation",
            fix="Run the recipe again to write it anew",
        )
    return Table(store, manifest, withheld_rows(store, manifest))


def refuse_withheld(tables: Mapping[str, Table]) -> None:
    """Check that no table holds what was taken down, before several tables are read row by row.

    Raises:
        TakenDownError: one does; the message names it.
    """
    names = sorted(name for name, table in tables.items() if table.withheld is not None)
    if names:
        raise TakenDownError(
            f"{', '.join(names)} in {next(iter(tables.values())).store.uri} "
            f"{'holds' if len(names) == 1 else 'hold'} rows that were taken down",
            fix=(
                "Run the whole recipe again: it computes these fragments without them and reuses "
                "the others"
            ),
        )


def _matching(store: Store, name: str, prefix: str) -> str:
    versions = store.versions(name)
    matching = [prefix] if prefix in versions else [v for v in versions if v.startswith(prefix)]
    if len(matching) == 1:
        return matching[0]
    if not versions:
        raise StoreError(_missing(store, name, None))
    if matching:
        message = f"{len(matching)} versions of table {name!r} in {store.uri} begin with {prefix!r}"
        fix = "Write more of its name"
    else:
        message = f"There is no version {prefix!r} of table {name!r} in {store.uri}"
        fix = "The beginning of one is enough"
    raise StoreError(Detail(message, "--version", prefix, matching or versions, fix))


def _missing(store: Store, name: str, run: RunRecord | None) -> Detail:
    """Return what is wrong: a run, or every finished one, lacks a table."""
    if run is not None:
        message, tables = f"Run {run.run} of {store.uri} has no table {name!r}", sorted(run.tables)
        return Detail(message, found=name, valid=tables, fix="Name another run, or leave --run out")
    message = f"No finished run of the store {store.uri} has a table {name!r}"
    unfinished = next((r for r in read_runs(store) if name in r.tables), None)
    if unfinished is not None:
        fix = f"See it by --run {unfinished.run}, or run the recipe again until it finishes"
        return Detail(f"{message}, but the {unfinished.state} run {unfinished.run} has", fix=fix)
    tables = store.tables()
    if not tables:
        fix = "Check the path of the store, or run a recipe first (curation run RECIPE --store DIR)"
        return Detail(f"{message}; there are none yet", found=name, fix=fix)
    return Detail(
        message,
        found=name,
        valid=tables if name not in tables else [],
        fix="Run the stage that writes it (curation plan RECIPE shows which), or name a version "
        "(curation versions TABLE --store STORE lists them)",
    )
