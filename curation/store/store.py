"""The store: data files, completion records and manifests of table versions, in one place.

A data file has a unique name and never changes. The completion record of a fragment is written after
its files, the manifest of a version after the records, and the entry in the log of the step last (see
`curation.store.step_log`). A crash at any point leaves every version either complete or invisible.

    tables/<table>/data/<fragment>.<unique>.parquet   rows
    tables/<table>/done/<memo>.json                   completion records
    tables/<table>/versions/<version>.parquet         manifests
    tables/<table>/keys/<key>.json                    version that a global stage wrote for a key
    dataset/<version>/part-*.parquet                  rows of the dataset, one folder for each version
    work/<stage>/…                                    work tables, states and unfinished work of a stage
    steps/<fingerprint>/<number>.json                 log of a step: leases and commits
    runs/<run>.json                                   runs
    logs/<run>.log                                    log files of runs, in a local store
    open/<recipe>/<table>/metadata/…                  by which readers open a table (see `iceberg`)
    tombstones/…                                      what was taken down (see `tombstones`)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from curation.store.checksums import sha256_of
from curation.store.manifest import FileEntry, FragmentRecord, Manifest, record_path
from curation.store.manifest_file import (
    OtherFormatError,
    read_header,
    read_manifest,
    read_names,
    record_from_json,
    record_to_json,
    write_manifest,
)
from curation.store.sealed_json import seal, unseal
from curation.store.storage.base import Storage, join_address
from curation.store.storage.open import open_storage
from curation.store.tombstones import Takedowns, read_takedowns

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

DATASET = "dataset"
"""The table whose files are in a folder of their own, for readers that know no manifest."""
FEW = 64
"""Up to so many files are looked up by their names. For more, their folder is listed."""
FEW_OBJECTS = 8
"""The same for an object store, which lists 1,000 files in the time in which it looks up one."""
READERS = 32
"""Small files that are read at the same time."""
CHUNK = 256
"""Small files that one thread reads, one after another."""
SET_ASIDE_SUFFIX = ".damaged"
"""Ending of the name of a file whose checksum was wrong. Nothing reads it."""

T = TypeVar("T")
R = TypeVar("R")


class Store:
    """Tables under one root. Pickled, it opens the same root anew on the worker.

    Args:
        root: a local folder or a URI (`s3://…`, `gs://…`, `abfs://…`, `hdfs://…`).
        storage: what to use instead of the storage of `root`; it is not pickled.

    Raises:
        StoreError: the root cannot be opened.
    """

    def __init__(self, root: str | Path, storage: Storage | None = None) -> None:
        self.storage = storage or open_storage(root)
        self.uri = self.storage.uri
        self._few = FEW if self.storage.is_local else FEW_OBJECTS
        self._takedowns: tuple[Takedowns | None] | None = None

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)

    def address(self, path: str) -> str:
        """Return a path of the store as other programs open it: a local path or a URI."""
        return join_address(self.uri, path)

    def takedowns(self, reload: bool = False) -> Takedowns | None:
        """Return what was taken down, or None; it is read once.

        Args:
            reload: read it again.

        Raises:
            StoreError: a tombstone is damaged.
        """
        if reload or self._takedowns is None:
            self._takedowns = (read_takedowns(self.storage),)
        return self._takedowns[0]

    def read_json(self, path: str) -> Any:
        """Return the JSON of a small file (see `seal`); None if there is none, or if it is damaged."""
        content = self.storage.read(path)
        try:
            return None if content is None else unseal(content)
        except ValueError as error:
            logger.warning("%s is damaged (%s). It is ignored.", self.address(path), error)
            return None

    # -- completion records -----------------------------------------------------------------------

    def put_record(self, record: FragmentRecord) -> FragmentRecord:
        """Write the completion record of a fragment that was computed just now.

        If the same rows are there, as after `--force`, in files that are whole, these stay, which
        versions name, and the new ones are deleted. The record is written again: its time tells how old
        the rows are.

        Args:
            record: its files are complete.

        Returns:
            The record that is in the store afterwards.
        """
        path = record_path(record.table_dir, record.memo)
        if self.storage.create(path, record_to_json(record)):
            return record
        earlier = self.finished_records(record.table_dir, [record.memo]).get(record.memo)
        kept = record
        # A file that is damaged must not take the place of one that was written just now.
        if earlier and earlier.content == record.content and self.are_whole(earlier.files):
            kept = earlier
        self.replace_record(kept)
        self.storage.delete({f.path for f in record.files} - {f.path for f in kept.files})
        return kept

    def are_whole(self, files: Iterable[FileEntry]) -> bool:
        """Whether files have the bytes that were written. All of them are read."""
        return all(sha256_of(self.storage, file.path) == file.sha256 for file in files)

    def replace_record(self, record: FragmentRecord) -> None:
        """Write a completion record, whatever the store has under its memo."""
        self.storage.write(record_path(record.table_dir, record.memo), record_to_json(record))

    def finished_records(
        self,
        table_dir: str,
        memos: Sequence[str],
        known: Mapping[str, FragmentRecord] | None = None,
    ) -> dict[str, FragmentRecord]:
        """Return the completion records with the given memos whose files are all there, in full size.

        A record whose file has vanished or changed its size, or holds what was taken down, is left out,
        so that the fragment is computed anew.

        Args:
            table_dir: folder of the store with the records of the table.
            memos: which records.
            known: records that the caller has read already, by memo, such as those of a manifest.
        """
        known = known or {}
        records = {memo: known[memo] for memo in memos if memo in known}
        complete = self._complete(records)
        # A fragment may have been computed again, after a file had vanished.
        unknown = [memo for memo in dict.fromkeys(memos) if memo not in complete]
        if len(unknown) > self._few:
            stored = {PurePosixPath(p).stem for p in self.storage.files(f"{table_dir}/done")}
            unknown = [memo for memo in unknown if memo in stored]
        paths = [record_path(table_dir, memo) for memo in unknown]
        read = dict(zip(unknown, in_parallel(self._read_record, paths), strict=True))
        return complete | self._complete({m: r for m, r in read.items() if r is not None})

    def _complete(self, records: Mapping[str, FragmentRecord]) -> dict[str, FragmentRecord]:
        paths = self.complete_files(f for record in records.values() for f in record.files)
        paths -= self.withheld_files() if paths else set()
        return {m: r for m, r in records.items() if all(f.path in paths for f in r.files)}

    def _read_record(self, path: str) -> FragmentRecord | None:
        return self._read(path, lambda content: record_from_json(content, path))

    def _read(self, path: str, parse: Callable[[bytes], R]) -> R | None:
        """Return what a file of the store says; None if it is missing, damaged or of another format."""
        content = self.storage.read(path)
        if content is None:
            return None
        try:
            return parse(content)
        except OtherFormatError:
            problem = "was written by another version of curation"
        except (ValueError, OSError) as error:
            problem = f"is damaged ({error})"
        logger.warning(
            "%s %s. It is ignored, and what it describes is computed again.",
            self.address(path),
            problem,
        )
        return None

    def complete_files(
        self, files: Iterable[FileEntry], listed: dict[str, dict[str, int]] | None = None
    ) -> set[str]:
        """Return the paths of the given files that are in the store with the recorded size.

        Args:
            files: which files.
            listed: sizes by path, by folder, of folders that earlier calls listed; more are added.
        """
        entries = list(files)
        listed = {} if listed is None else listed
        if len(entries) <= self._few:
            statuses = in_parallel(self.storage.status, [f.path for f in entries])
            pairs = zip(entries, statuses, strict=True)
            return {f.path for f, status in pairs if status and status.size == f.size}
        folders = sorted({f.path.rsplit("/", 1)[0] for f in entries})
        for folder in folders:
            if folder not in listed:
                listed[folder] = {p: s.size for p, s in self.storage.files(folder).items()}
        sizes = {p: size for folder in folders for p, size in listed[folder].items()}
        return {f.path for f in entries if sizes.get(f.path) == f.size}

    def set_aside(self, path: str) -> str:
        """Rename a file whose bytes are not those that were written, so that running again mends it.

        Returns:
            The new path.
        """
        target = f"{path}{SET_ASIDE_SUFFIX}"
        if path.startswith(f"{DATASET}/"):
            # People open the folder of a version, and some readers open every file of it.
            name = path.partition("/")[2].replace("/", "-")
            target = f"tables/{DATASET}/data/{name}{SET_ASIDE_SUFFIX}"
        self.storage.copy(path, target)
        self.storage.delete([path])
        return target

    # -- table versions ---------------------------------------------------------------------------

    def put_version(self, manifest: Manifest) -> Manifest:
        """Write the manifest of a version, unless one with the same rows and whole files is there.

        Returns:
            The manifest that is in the store afterwards.
        """
        path = manifest_path(manifest.table, manifest.version)
        if self.storage.create(path, write_manifest(manifest)):
            return manifest
        stored = self.manifest(manifest.table, manifest.version)
        if stored is not None and self.is_complete(stored):
            # The same rows were written anew, as by `--force`: perhaps because a file is damaged.
            others = set(stored.files).difference(manifest.files)
            if self.are_whole(others):
                return stored
        self.storage.write(path, write_manifest(manifest))
        return manifest

    def withheld_files(self) -> frozenset[str]:
        """Return the files that hold what was taken down."""
        takedowns = self.takedowns()
        return frozenset() if takedowns is None else takedowns.files

    def is_withheld(self, manifest: Manifest) -> bool:
        """Whether a file of a version holds what was taken down."""
        withheld = self.withheld_files()
        return bool(withheld) and any(f.path in withheld for f in manifest.files)

    def is_complete(self, manifest: Manifest) -> bool:
        """Whether all files of a version are there, in full size, with nothing that was taken down."""
        if self.is_withheld(manifest):
            return False
        files = manifest.files
        return len(self.complete_files(files)) == len({f.path for f in files})

    def manifest(self, table: str, version: str) -> Manifest | None:
        """Return the manifest of a version; None if there is none that can be read."""
        return self._read_version(table, version, read_manifest)

    def header(self, table: str, version: str) -> dict[str, Any] | None:
        """Return a manifest without its fragments (see `read_header`); None if there is none."""
        return self._read_version(table, version, read_header)

    def paths(self, table: str, version: str) -> pa.ChunkedArray | None:
        """Return the paths of the files of a version; None if no manifest can be read.

        A manifest of 130,000 fragments takes a hundredth of the memory that `manifest` needs.
        """
        names = self._read_version(table, version, read_names)
        return None if names is None else names[0]

    def _read_version(
        self, table: str, version: str, parse: Callable[[bytes, str, str], R]
    ) -> R | None:
        path = manifest_path(table, version)
        return self._read(path, lambda content: parse(content, table, version))

    def versions(self, table: str) -> list[str]:
        """Return the versions of a table, the one that was written last first."""
        files = self.storage.files(f"tables/{table}/versions")
        latest_first = sorted(files, key=lambda path: (-files[path].modified, path))
        return [PurePosixPath(path).stem for path in latest_first if path.endswith(".parquet")]

    def tables(self) -> list[str]:
        """Return the names of the tables that have a version, in order."""
        return [name for name in self.storage.folders("tables") if self.versions(name)]

    def put_key(self, table: str, key: str, version: str) -> None:
        """Record the version that a global stage wrote for everything that decides its rows."""
        self.storage.write(_key_path(table, key), seal({"key": key, "version": version}))

    def keys(self, table: str) -> list[str]:
        """Return the keys that `put_key` recorded for a table."""
        return [PurePosixPath(path).stem for path in self.storage.files(f"tables/{table}/keys")]

    def version_for_key(self, table: str, key: str) -> str | None:
        """Return the version that `put_key` recorded, or None."""
        spec = self.read_json(_key_path(table, key))
        is_of_key = isinstance(spec, dict) and spec.get("key") == key and "version" in spec
        return str(spec["version"]) if is_of_key else None


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return `[function(item) for item in items]`, for functions that wait for a storage."""
    if len(items) < 2:
        return [function(item) for item in items]
    size = max(1, min(CHUNK, len(items) // READERS))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]

    def call(chunk: Sequence[T]) -> list[R]:
        return [function(item) for item in chunk]

    with ThreadPoolExecutor(min(READERS, len(chunks))) as pool:
        return [result for results in pool.map(call, chunks) for result in results]


def manifest_path(table: str, version: str) -> str:
    """Return the path of the manifest of a version."""
    return f"tables/{table}/versions/{version}.parquet"


def _key_path(table: str, key: str) -> str:
    return f"tables/{table}/keys/{key}.json"
