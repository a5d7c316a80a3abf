"""Where the report of a dataset is."""

from __future__ import annotations

from curation.engine.table import Table
from curation.store.store import Store


def report_path(dataset: Table) -> str:
    """Return the path of the report of a version of the dataset, within the store."""
    return f"reports/{dataset.manifest.version}/report.html"


def finished_report(dataset: Table, store: Store) -> str | None:
    """Return the path of the report of a version of the dataset, or None if nobody has written it."""
    path = report_path(dataset)
    return None if store.storage.status(path) is None else path
