"""The folders of reports: one for each version of the dataset, and more where runs share a version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TypeVar

from curation.store.layout import is_report_folder
from curation.store.manifest import FileEntry
from curation.store.problem import Problem, problem_of, unreadable
from curation.store.sealed_json import seal, unseal
from curation.store.store import DATASET, Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

T = TypeVar("T")

FOLDER = "reports"
OWNER = "made-from.json"
"""The file that says of what the report beside it is."""
CHECKSUMS = "checksums.json"
"""The file with the sizes and checksums of those beside it. It is written last."""


def claim_report(store: Store, version: str, key: str) -> str:
    """Return what follows the version in the name of the folder in which to write a report.

    Runs of several recipes, and of one recipe on different sources, may lead to the same dataset. The
    first of them has the folder with the name of the version, and each other one a folder beside it.

    Args:
        store: where the report goes.
        version: of the dataset.
        key: stands for everything that the report shows.
    """
    # On object stores, whoever creates the same content again succeeds: it has the same key.
    if store.storage.create(f"{FOLDER}/{version}/{OWNER}", seal({"key": key})):
        return ""
    return report_suffix(store, version, key)


def report_suffix(store: Store, version: str, key: str) -> str:
    """Return the same as `claim_report` for a report that was written."""
    spec = store.read_json(f"{FOLDER}/{version}/{OWNER}")
    return "" if isinstance(spec, dict) and spec.get("key") == key else f"-{key}"


def version_of_report(folder: str) -> str:
    """Return the version of the dataset to which a folder of reports belongs, by its name."""
    return folder.partition("-")[0]


def put_report(store: Store, folder: str, files: Mapping[str, bytes]) -> None:
    """Write the files of a report, by their names in its folder, and last their checksums.

    The checksums of an earlier report go first: without them, what a killed process leaves is a report
    that was not written to its end.
    """
    store.storage.delete([f"{folder}/{CHECKSUMS}"])
    for name, content in files.items():
        store.storage.write(f"{folder}/{name}", content)
    written = {
        name: {"size": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in files.items()
    }
    store.storage.write(f"{folder}/{CHECKSUMS}", seal({"files": written}))


def in_removal_order(files: Mapping[str, T]) -> dict[str, T]:
    """Return the files of a report, by path, its checksums first: without them no file is missing."""
    return dict(sorted(files.items(), key=lambda file: not file[0].endswith(f"/{CHECKSUMS}")))


def is_written(store: Store, folder: str) -> bool:
    """Whether a folder has a report with all its files, in full size."""
    content = store.storage.read(f"{folder}/{CHECKSUMS}")
    try:
        entries = [] if content is None else _entries(folder, content)
    except ValueError:
        return False
    sizes = {path: status.size for path, status in store.storage.files(folder).items()}
    return bool(entries) and all(sizes.get(entry.path) == entry.size for entry in entries)


def check_reports(store: Store) -> Iterator[Problem]:
    """Yield what is wrong with reports. The next run writes one that was not written to its end."""
    for name in filter(is_report_folder, store.storage.folders(FOLDER)):
        folder = f"{FOLDER}/{name}"
        before = store.storage.status(f"{folder}/{CHECKSUMS}")
        problems = list(_problems(store, folder))
        # It may have been written anew, or deleted, meanwhile.
        if store.storage.status(f"{folder}/{CHECKSUMS}") == before:
            versions = (version_of_report(name),)
            yield from (replace(each, table=DATASET, versions=versions) for each in problems)


def _problems(store: Store, folder: str) -> Iterator[Problem]:
    entries: list[FileEntry] = []
    for name in (OWNER, CHECKSUMS):
        path = f"{folder}/{name}"
        try:
            content = store.storage.read(path)
            if content is not None:
                entries = _entries(folder, content) if name == CHECKSUMS else []
                unseal(content)
        except (ValueError, OSError) as error:
            yield unreadable(store, path, error)
    yield from filter(None, (problem_of(store, entry) for entry in entries))


def _entries(folder: str, content: bytes) -> list[FileEntry]:
    """Return the files of a report, as their checksums are recorded.

    Raises:
        ValueError: the record is damaged.
    """
    spec = unseal(content)
    try:
        return [
            FileEntry(f"{folder}/{name}", file["size"], file["sha256"], 0)
            for name, file in spec["files"].items()
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it lacks a field: {error}") from error
