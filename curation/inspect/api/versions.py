"""What the manifests of versions record."""

from __future__ import annotations

from dataclasses import dataclass

from curation.inspect.current import CurrentTables
from curation.store.run_log import read_runs
from curation.store.store import Store, in_parallel


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
        bytes: size of its files; None in manifests that are older than this field.
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


def list_versions(tables: CurrentTables, table: str | None = None) -> list[TableVersion]:
    """Return the current version of each table, or all versions of one table, the latest first.

    Args:
        tables: of the recipe.
        table: the one table.

    Raises:
        StoreError: there is no such table.
    """
    store = tables.store
    if table is not None:
        listed = [(table, version) for version in store.versions(tables.check(table))]
    else:
        listed = [(name, tables.version(name)) for name in tables]
    latest = _latest_runs(store)
    headers = in_parallel(lambda entry: store.header(*entry), listed)
    return [
        TableVersion(
            table=entry[0],
            version=entry[1],
            run=latest.get(entry),
            created=header["created"],
            stage=header["stage"],
            rows=header["rows"],
            fragments=header["fragments"],
            bytes=header.get("bytes"),
            seconds=header.get("seconds"),
        )
        for entry, header in zip(listed, headers, strict=True)
        if header is not None
    ]


def _latest_runs(store: Store) -> dict[tuple[str, str], str]:
    latest: dict[tuple[str, str], str] = {}
    for record in read_runs(store):
        for entry in record.tables.items():
            latest.setdefault(entry, record.run)
    return latest
