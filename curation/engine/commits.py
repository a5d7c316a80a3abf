"""Committed versions of tables: whether all their files are there, and files brought together."""

from __future__ import annotations

from dataclasses import replace

from curation.engine.manifest import FragmentRecord
from curation.engine.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def is_complete(store: Store, table: str, table_version: str) -> bool:
    """Whether a version is committed and all its files are there, in full size."""
    manifest = store.manifest(table, table_version)
    if manifest is None:
        return False
    files = [f for record in manifest.fragments for f in record.files]
    complete = store.complete_files(files)
    return all(f.path in complete for f in files)


def gather_files(
    store: Store, folder: str, records: tuple[FragmentRecord, ...]
) -> tuple[FragmentRecord, ...]:
    """Copy the files of records that are elsewhere into a folder, and delete all others there.

    Tools that know no manifest open a version of the dataset by the path of its folder.

    Returns:
        The records with every file in the folder.
    """
    moved = []
    for record in records:
        files = []
        for entry in record.files:
            target = f"{folder}/{entry.path.rsplit('/', 1)[1]}"
            if target != entry.path:
                store.copy(entry.path, target)
            files.append(replace(entry, path=target))
        moved.append(replace(record, files=tuple(files)))
    paths = {f.path for r in moved for f in r.files}
    store.delete(p for p in store.sizes(folder) if p not in paths)
    return tuple(moved)
