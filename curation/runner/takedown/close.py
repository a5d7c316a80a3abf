"""Closes what shows rows that were taken down without asking the store: reports, and Iceberg tables."""

from __future__ import annotations

from curation.engine.iceberg import close, published
from curation.store.layout import is_report_folder, without_linked
from curation.store.reports import FOLDER as REPORTS
from curation.store.reports import version_of_report
from curation.store.run_log import read_runs
from curation.store.store import DATASET, Store
from curation.store.withheld import VersionsWithFiles

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def delete_reports(store: Store) -> int:
    """Delete the reports of all versions of the dataset but those of runs without withheld tables."""
    # Listed first: a report of this list is of a run whose record has the dataset already.
    folders = list(filter(is_report_folder, store.storage.folders(REPORTS)))
    withheld = VersionsWithFiles(store, store.withheld_files())
    clean: set[str] = set()
    other: set[str] = set()
    for record in read_runs(store):
        if DATASET in record.tables:
            versions = other if withheld.has_any(record.tables) else clean
            versions.add(record.tables[DATASET])
    deleted = 0
    for folder in folders:
        # Runs with the same dataset may differ in the other tables.
        if version_of_report(folder) not in clean - other:
            files = store.storage.files(f"{REPORTS}/{folder}", recursive=True)
            paths = without_linked(store.storage, files)
            store.storage.delete(paths)
            # Some object stores list a folder whose files are gone.
            deleted += bool(paths)
    return deleted


def close_folders(store: Store) -> tuple[str, ...]:
    """Delete the Iceberg metadata that opens a version with withheld rows; return the folders.

    Programs that read Parquet files by it would get these rows.
    """
    withheld = VersionsWithFiles(store, store.withheld_files())
    return tuple(
        close(store, opened.recipe, opened.table)
        for opened in list(published(store))
        if withheld.has(opened.table, opened.version)
    )
