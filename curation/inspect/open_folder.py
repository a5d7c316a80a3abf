"""The folder by which other programs open a version of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curation.engine.iceberg import OpenFolder
from curation.engine.table import Table
from curation.errors import StoreError
from curation.store.run_log import find_run, latest_run, read_runs
from curation.store.store import DATASET, Store

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
"""A name that SQL takes without quotes."""


def open_folder(table: Table, run: str | None = None, any_recipe: bool = False) -> str:
    """Return the address of the folder by which Iceberg readers open a version of a table.

    Args:
        table: the version.
        run: the run that has it, or the beginning of its name. The default is the latest finished run
            that has the table.
        any_recipe: the folder of any recipe that made the version serves.

    Raises:
        StoreError: no such folder opens this version; the message says which one it opens.
    """
    store, manifest = table.store, table.manifest
    problem = "no run has made it"
    for recipe in _recipes(store, table, run, any_recipe):
        folder = OpenFolder(store, recipe, manifest.table)
        if folder.opens(manifest):
            return folder.address
        problem = f"the folder {folder.address} {_opened(folder.version(), manifest.version)}"
    raise StoreError(
        f"No folder opens version {manifest.version} of table {manifest.table!r}: {problem}. "
        "Only the current version of a recipe opens by a folder",
        fix="Run the recipe again, or leave out --dir to print the files of the version",
    )


def _opened(version: str | None, wanted: str) -> str:
    """Return what a folder opens that does not open the wanted version."""
    if version is None:
        return "is missing or not complete"
    if version == wanted:
        return "was changed, or names files elsewhere: the store was moved or copied since"
    return f"opens version {version}"


def _recipes(store: Store, table: Table, run: str | None, any_recipe: bool) -> Iterator[str]:
    name = table.manifest.table
    if any_recipe and run is None:
        records = (r for r in read_runs(store) if r.tables.get(name) == table.manifest.version)
        yield from dict.fromkeys(record.recipe for record in records)
        return
    record = find_run(store, run) if run else latest_run(store, name)
    if record is not None:
        yield record.recipe


def duckdb_call(table: Table, folder: str) -> str:
    """Return the line of SQL with which DuckDB reads a table.

    Args:
        table: the version.
        folder: address of the folder by which it opens.
    """
    if table.manifest.table == DATASET and table.rows:
        return f"FROM {_quoted(f'{folder}/*.parquet')}"
    return f"INSTALL iceberg; LOAD iceberg; FROM iceberg_scan({_quoted(folder)})"


def sql_name(table: str) -> str:
    """Return the name of a table as SQL has it, as `embeddings."my-encoder"`."""
    parts = (p if _PLAIN.fullmatch(p) else f'"{p}"' for p in table.split("."))
    return ".".join(parts)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
