"""The store: committed files, completion records and manifests, on any pyarrow file system.

Files are written under unique names, then the completion record of their fragment. The manifest of a
table version is put last: it makes the version visible. Nothing is renamed on an object store. A crash
at any point leaves every version either complete or invisible.

    tables/<table>/data/<fragment>.<unique>.parquet   rows
    tables/<table>/done/<memo>.json                   completion records
    tables/<table>/versions/<version>.json            manifests
    tables/<table>/current.json                       the version that readers see
    dataset/<version>/part-*.parquet                  rows of the dataset, one folder for each version
    work/<stage>/…                                    work tables and states of a stage
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pyarrow import fs

from curation.engine.manifest import FORMAT, FileEntry, FragmentRecord, Manifest
from curation.errors import StoreError

logger = logging.getLogger(__name__)

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

DATASET = "dataset"
"""The table whose files are in a folder of their own, for readers that know no manifest."""


class Store:
    """Committed tables under one root. Pickled, it opens the same root anew on the worker.

    Args:
        root: a local folder or a URI (`s3://…`, `gs://…`, `hdfs://…`).

    Raises:
        StoreError: the root cannot be opened.
    """

    def __init__(self, root: str | Path) -> None:
        self.uri = str(root) if "://" in str(root) else str(Path(root).resolve())
        try:
            self.fs, self.root = fs.FileSystem.from_uri(self.uri)
        except (ValueError, OSError) as error:
            raise StoreError(f"Cannot open the store {self.uri!r}: {error}") from error

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return isinstance(self.fs, fs.LocalFileSystem)

    def absolute(self, path: str) -> str:
        """Return a path of the store as `fs` takes it; for a local store, the absolute path."""
        return f"{self.root}/{path}"

    def address(self, path: str) -> str:
        """Return a path of the store as other programs open it: a local path or a URI."""
        return self.absolute(path) if self.is_local else f"{self.uri.rstrip('/')}/{path}"

    # -- small files ------------------------------------------------------------------------------

    def put(self, path: str, content: bytes) -> None:
        """Write a small file so that no reader ever sees a part of it."""
        target = self.absolute(path)
        self.fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
        # An object store shows an object only when it is complete; a local disk needs the move.
        written = f"{target}.{uuid.uuid4().hex}.tmp" if self.is_local else target
        with self.fs.open_output_stream(written) as stream:
            stream.write(content)
        if self.is_local:
            self.fs.move(written, target)

    def get(self, path: str) -> bytes | None:
        """Return the content of a small file, or None if there is no such file."""
        try:
            with self.fs.open_input_stream(self.absolute(path)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def put_json(self, path: str, value: Any) -> None:
        """Write `value` as JSON."""
        self.put(path, json.dumps(value, indent=1, sort_keys=True).encode())

    def get_json(self, path: str) -> Any:
        """Return the JSON of a small file, or None if there is no such file.

        Raises:
            StoreError: the file is not JSON.
        """
        content = self.get(path)
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise StoreError(
                f"{self.address(path)} is damaged ({error}). Delete it and run the recipe again, "
                "which computes anew what it recorded."
            ) from error

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every file directly in `folder`, by path within the store."""
        selector = fs.FileSelector(self.absolute(folder), allow_not_found=True)
        return {
            info.path[len(self.root) + 1 :]: info.size
            for info in self.fs.get_file_info(selector)
            if info.type == fs.FileType.File
        }

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files of the store."""
        for path in paths:
            self.fs.delete_file(self.absolute(path))

    def delete_folder(self, folder: str) -> None:
        """Delete a folder of the store and everything in it."""
        self.fs.delete_dir(self.absolute(folder))

    def copy(self, source: str, target: str) -> None:
        """Copy a file within the store."""
        self.fs.create_dir(self.absolute(target).rsplit("/", 1)[0], recursive=True)
        self.fs.copy_file(self.absolute(source), self.absolute(target))

    # -- completion records -----------------------------------------------------------------------

    def put_record(self, record: FragmentRecord) -> None:
        """Write the completion record of a fragment whose files are complete."""
        self.put_json(f"{record.table_dir}/done/{record.memo}.json", record.to_json())

    def finished_records(self, table_dir: str, memos: Sequence[str]) -> dict[str, FragmentRecord]:
        """Return the completion records with the given memos whose files are all there, in full size.

        A record whose file has vanished or changed its size is left out, so that the fragment is
        computed anew.
        """
        stored = {Path(p).stem for p in self.sizes(f"{table_dir}/done")}
        records = {}
        for memo in memos:
            spec = self._described(f"{table_dir}/done/{memo}.json") if memo in stored else None
            if spec is not None:
                records[memo] = FragmentRecord.from_json(spec)
        complete = self.complete_files(f for record in records.values() for f in record.files)
        return {
            memo: record
            for memo, record in records.items()
            if all(f.path in complete for f in record.files)
        }

    def _described(self, path: str) -> dict[str, Any] | None:
        """Return a manifest or record as JSON; None if there is none that this version can read."""
        spec: dict[str, Any] | None = self.get_json(path)
        if spec is None or spec.get("format") == FORMAT:
            return spec
        logger.warning(
            "%s was written by another version of curation. It is ignored, and what it describes is "
            "computed again.",
            self.address(path),
        )
        return None

    def complete_files(self, files: Iterable[FileEntry]) -> set[str]:
        """Return the paths of the given files that are in the store with the recorded size."""
        sizes: dict[str, dict[str, int]] = {}
        complete = set()
        for file in files:
            folder = file.path.rsplit("/", 1)[0]
            if folder not in sizes:
                sizes[folder] = self.sizes(folder)
            if sizes[folder].get(file.path) == file.size:
                complete.add(file.path)
        return complete

    # -- table versions ---------------------------------------------------------------------------

    def commit(self, manifest: Manifest) -> None:
        """Write the manifest of a table version, which makes it visible: the last write of a step."""
        folder = f"tables/{manifest.table}/versions"
        self.put_json(f"{folder}/{manifest.version}.json", manifest.to_json())
        self.set_current(manifest.table, manifest.version)

    def set_current(self, table: str, version: str) -> None:
        """Make a committed version the current one, which readers see."""
        path = f"tables/{table}/current.json"
        if self.get_json(path) != {"version": version}:
            self.put_json(path, {"version": version})

    def manifest(self, table: str, version: str | None = None) -> Manifest | None:
        """Return the manifest of a version, by default the current one; None if there is none."""
        folder = f"tables/{table}"
        if version is None:
            current = self.get_json(f"{folder}/current.json")
            if current is None:
                return None
            version = current["version"]
        spec = self._described(f"{folder}/versions/{version}.json")
        return None if spec is None else Manifest.from_json(spec)

    def versions(self, table: str) -> list[str]:
        """Return the committed versions of a table."""
        return sorted(Path(p).stem for p in self.sizes(f"tables/{table}/versions"))

    def tables(self) -> list[str]:
        """Return the names of the tables that have a committed version, in order."""
        selector = fs.FileSelector(self.absolute("tables"), allow_not_found=True)
        names = (
            info.base_name
            for info in self.fs.get_file_info(selector)
            if info.type == fs.FileType.Directory
        )
        return sorted(n for n in names if self.get(f"tables/{n}/current.json") is not None)
