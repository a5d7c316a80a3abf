"""Closes what shows rows that were taken down without asking the store: reports, and Iceberg tables."""

from __future__ import annotations

from collections.abc import Mapping

from curation.engine.iceberg import open_path, published
from curation.store.run_log import read_runs
from curation.store.store import DATASET, Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def delete_reports(store: Store) -> int:
    """Delete the reports of all versions of the dataset but those of runs without withheld tables."""
    clean = {
        record.tables[DATASET]
        for record in read_runs(store)
        if DATASET in record.tables and not is_withheld(store, record.tables)
    }
    deleted = 0
    for version in store.storage.folders("reports"):
        if version not in clean:
            paths = store.storage.files(f"reports/{version}", recursive=True)
            store.storage.delete(paths)
            deleted += 1
    return deleted


def close_folders(store: Store) -> tuple[str, ...]:
    """Delete the Iceberg metadata that opens a version with withheld rows; return the folders.

    Programs that read Parquet files by it would get these rows.
    """
    closed = []
    for opened in list(published(store)):
        if is_withheld(store, {opened.table: opened.version}):
            path = open_path(opened.recipe, opened.table)
            store.storage.delete(store.storage.files(path, recursive=True))
            closed.append(path)
    return tuple(closed)


def is_withheld(store: Store, tables: Mapping[str, str]) -> bool:
    """Whether some versions of tables hold what was taken down."""
    if not store.withheld_files():
        return False
    manifests = (store.manifest(table, version) for table, version in tables.items())
    return any(m is not None and store.is_withheld(m) for m in manifests)
