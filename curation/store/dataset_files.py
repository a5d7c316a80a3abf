"""The files of a version of the dataset, brought together in a folder that any reader can open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from curation.errors import DamagedFileError
from curation.store.manifest import FragmentRecord
from curation.store.store import DATASET, Store, in_parallel

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

STAGED = f"tables/{DATASET}/"
"""Where files of the dataset are until they are published."""


def dataset_folder(version: str) -> str:
    """Return the folder of a version of the dataset, within the store."""
    return f"{DATASET}/{version}"


def publish(
    store: Store, version: str, records: Sequence[FragmentRecord]
) -> tuple[FragmentRecord, ...]:
    """Copy the files of records into the folder of a version of the dataset.

    Their names there follow from the fragments. A version stands for the bytes of its files, so
    two runs that publish the same version write the same files.

    Returns:
        The records with every file in the folder.
    """
    # One listing: a request for each file would take hours where there are many.
    folder = dataset_folder(version)
    there = {path: status.size for path, status in store.storage.files(folder).items()}
    in_folder: list[FragmentRecord] = []
    missing: list[tuple[FragmentRecord, int, str]] = []
    for record in records:
        files = []
        for number, entry in enumerate(record.files):
            part = f"-{number:03d}" if len(record.files) > 1 else ""
            published = replace(entry, path=f"{folder}/{record.name}{part}.parquet")
            is_there = there.get(published.path) == entry.size
            if entry.path != published.path and not (is_there and store.are_whole([published])):
                missing.append((record, number, published.path))
            files.append(published)
        in_folder.append(replace(record, files=tuple(files)))
    in_parallel(lambda copied: _copy(store, *copied), missing)
    return tuple(in_folder)


def _copy(store: Store, record: FragmentRecord, number: int, target: str) -> None:
    """Copy a file of a record.

    Who took the lease over may have published the file meanwhile, and deleted the staged one. Then the
    record in the store names the published one.

    Raises:
        DamagedFileError: the file has vanished.
    """
    entry = record.files[number]
    try:
        store.storage.copy(entry.path, target)
        return
    except FileNotFoundError as error:
        stored = store.finished_records(record.table_dir, [record.memo]).get(record.memo)
        files = () if stored is None else stored.files
        same = [file.path for file in files if file.sha256 == entry.sha256]
        if not same:
            raise DamagedFileError(
                f"{store.address(entry.path)} has vanished",
                path=entry.path,
                sha256=entry.sha256,
                fix=(
                    "Run the whole recipe again: it computes what is missing and reuses what is "
                    "finished"
                ),
            ) from error
    if target not in same:
        store.storage.copy(same[0], target)


def forget_staged(
    store: Store, staged: Sequence[FragmentRecord], published: Sequence[FragmentRecord]
) -> None:
    """Let completion records name the published files, and delete the files that were copied."""
    changed = [(b, a) for b, a in zip(staged, published, strict=True) if b.files != a.files]
    in_parallel(store.replace_record, [after for _, after in changed])
    in_folder = {f.path for record in published for f in record.files}
    # Files in the folder of another version stay.
    copied = (f.path for before, _ in changed for f in before.files if f.path.startswith(STAGED))
    store.storage.delete(path for path in copied if path not in in_folder)
