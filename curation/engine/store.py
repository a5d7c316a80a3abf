"""The store: committed files, completion records and manifests, on any pyarrow file system.

A file is written under a unique name, then its completion record; a table version becomes visible
when its manifest is put last. Nothing is renamed on an object store, and a crash leaves nothing
half-visible.

    tables/<table>/data/<fragment>.<unique>.parquet   rows
    tables/<table>/done/<memo>.json                   completion records
    tables/<table>/versions/<version>.json            manifests
    tables/<table>/current.json                       which version readers see
    dataset/<version>/part-*.parquet                  rows of the dataset, one folder a version
    work/<stage>/…                                    what a stage needs beside its table
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pyarrow import fs

from curation.engine.manifest import FragmentRecord, Manifest
from curation.errors import StoreError

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


DATASET = "dataset"


class Store:
    """Committed tables under one root: a local folder or a URI (`s3://…`, `gs://…`, `hdfs://…`)."""

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
        """Whether paths of the store are paths of this machine."""
        return isinstance(self.fs, fs.LocalFileSystem)

    def absolute(self, path: str) -> str:
        """Return the path that the file system takes, or for users a local absolute path."""
        return f"{self.root}/{path}"

    def address(self, path: str) -> str:
        """Return what a reader outside the project opens: a local path or a URI."""
        return self.absolute(path) if self.is_local else f"{self.uri.rstrip('/')}/{path}"

    # -- small files ------------------------------------------------------------------------------

    def put(self, path: str, content: bytes) -> None:
        """Write a whole small file so that no reader ever sees a part of it."""
        target = self.absolute(path)
        self.fs.create_dir(target.rsplit("/", 1)[0], recursive=True)
        # An object store shows an object only when it is complete; a local disk needs the move.
        written = f"{target}.{uuid.uuid4().hex}.tmp" if self.is_local else target
        with self.fs.open_output_stream(written) as stream:
            stream.write(content)
        if self.is_local:
            self.fs.move(written, target)

    def get(self, path: str) -> bytes | None:
        """Return the content of a small file, or None where there is none."""
        try:
            with self.fs.open_input_stream(self.absolute(path)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def put_json(self, path: str, value: Any) -> None:
        """Write `value` as JSON."""
        self.put(path, json.dumps(value, indent=1, sort_keys=True).encode())

    def get_json(self, path: str) -> Any:
        """Return the JSON at `path`, or None where there is none.

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
                f"{self.address(path)} is damaged ({error}). Delete it and run again: what it "
                "recorded is computed anew."
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
        """Delete a folder of the store with all that is in it."""
        self.fs.delete_dir(self.absolute(folder))

    def copy(self, source: str, target: str) -> None:
        """Copy a file within the store."""
        self.fs.create_dir(self.absolute(target).rsplit("/", 1)[0], recursive=True)
        self.fs.copy_file(self.absolute(source), self.absolute(target))

    # -- completion records -----------------------------------------------------------------------

    def put_record(self, record: FragmentRecord) -> None:
        """Put the completion record of a fragment whose files are written."""
        self.put_json(f"{record.table_dir}/done/{record.memo}.json", record.to_json())

    def finished_records(self, table_dir: str, memos: Sequence[str]) -> dict[str, FragmentRecord]:
        """Return the completion records among `memos` whose files are all there, in full size."""
        done = {Path(p).stem for p in self.sizes(f"{table_dir}/done")}
        found = {}
        listed: dict[str, dict[str, int]] = {}
        for memo in memos:
            if memo not in done:
                continue
            record = FragmentRecord.from_json(self.get_json(f"{table_dir}/done/{memo}.json"))
            if all(self._has(f.path, f.size, listed) for f in record.files):
                found[memo] = record
        return found

    def _has(self, path: str, size: int, listed: dict[str, dict[str, int]]) -> bool:
        folder = path.rsplit("/", 1)[0]
        if folder not in listed:
            listed[folder] = self.sizes(folder)
        return listed[folder].get(path) == size

    # -- table versions ---------------------------------------------------------------------------

    def commit(self, manifest: Manifest) -> None:
        """Make a table version visible; this is the last write of a step."""
        home = f"tables/{manifest.table}"
        self.put_json(f"{home}/versions/{manifest.version}.json", manifest.to_json())
        self.set_current(manifest.table, manifest.version)

    def set_current(self, table: str, version: str) -> None:
        """Make a committed version the one that readers see."""
        path = f"tables/{table}/current.json"
        if self.get_json(path) != {"version": version}:
            self.put_json(path, {"version": version})

    def manifest(self, table: str, version: str | None = None) -> Manifest | None:
        """Return the manifest of a version (by default the current one), or None."""
        home = f"tables/{table}"
        if version is None:
            current = self.get_json(f"{home}/current.json")
            if current is None:
                return None
            version = current["version"]
        spec = self.get_json(f"{home}/versions/{version}.json")
        return None if spec is None else Manifest.from_json(spec)

    def versions(self, table: str) -> list[str]:
        """Return the committed versions of a table."""
        return sorted(Path(p).stem for p in self.sizes(f"tables/{table}/versions"))

    def tables(self) -> list[str]:
        """Return the names of the tables with a committed version."""
        selector = fs.FileSelector(self.absolute("tables"), allow_not_found=True)
        names = (
            info.base_name
            for info in self.fs.get_file_info(selector)
            if info.type == fs.FileType.Directory
        )
        return sorted(n for n in names if self.get(f"tables/{n}/current.json") is not None)
