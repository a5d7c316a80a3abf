"""Folders by which other programs open the tables of a recipe: Iceberg metadata beside the data files.

A data file may belong to several versions and recipes, so no folder with data files is a table. Here
each recipe has one folder for each of its tables, with metadata that names the data files of the
current version where they are:

    open/<recipe>/<table>/metadata/<N>-<key>-<unique>-files.avro      the data files (manifest)
    open/<recipe>/<table>/metadata/<N>-<key>-<unique>-list.avro       names that manifest
    open/<recipe>/<table>/metadata/v<N>.metadata.json                 columns, properties, snapshot
    open/<recipe>/<table>/metadata/version-hint.text                  N: readers begin here
    open/<recipe>/<table>/metadata/<N>-<key>-<unique>-published.json  says that the hint was written

They are written in this order. `v<N>.metadata.json` is created, which one of several writers can do;
the others try the next number. The hint alone is overwritten, so each writer looks afterwards whether
a later number exists, and if so names that one. A version is never changed. `<key>` stands for the
address of the folder and for all data files, so one listing tells whether anything is to be done.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa

from curation.engine.contract import contract
from curation.engine.iceberg_files import (
    DataFile,
    Schema,
    Snapshot,
    manifest_file,
    manifest_list,
    table_metadata,
)
from curation.errors import StoreError, TakenDownError
from curation.store.digest import digest
from curation.store.fragment import Fragment
from curation.store.layout import without_linked
from curation.store.manifest import Manifest
from curation.store.open_files import (
    FOLDER,
    HINT,
    MARK,
    Published,
    files_of,
    latest_mark,
    metadata_numbers,
)
from curation.store.storage.base import FileStatus
from curation.store.store import Store, in_parallel, manifest_path
from curation.store.withheld import taken_down_since

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

FORMAT = 2
"""Grows when the metadata that is written for a version changes: it is then written anew."""
GRACE_S = 600.0
"""Seconds for which metadata stays that is not the current one any more: readers may be opening it."""
KEY_DIGITS = 16
FILES, LIST = "-files.avro", "-list.avro"
"""Endings of the names of manifests and of manifest lists."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WRITTEN = re.compile(
    rf"(\d+)-([0-9a-f]{{{KEY_DIGITS}}}-[0-9a-f-]{{36}})({FILES}|{LIST}|{MARK})".replace(".", r"\.")
)


class OpenVersion(NamedTuple):
    """The version of a table that the folder of a recipe opens."""

    recipe: str
    table: str
    version: str


def open_path(recipe: str, table: str) -> str:
    """Return the path within the store of the folder by which a table of a recipe opens.

    Raises:
        StoreError: a name cannot be that of a folder.
    """
    for name in (recipe, table):
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"{name!r} cannot name the folder by which readers open the table",
                fix="Use letters, digits, '.', '_' and '-', beginning with a letter or a digit",
            )
    return f"{FOLDER}/{recipe}/{table}"


def open_address(store: Store, path: str) -> str:
    """Return a path of the store as Iceberg readers take it: not encoded, and without options."""
    uri, root = store.uri, store.storage.root
    if store.storage.is_local:
        return f"{root}/{path}"
    scheme = urlsplit(uri).scheme
    if scheme in ("s3", "gs", "gcs"):
        return f"{'s3' if scheme == 's3' else 'gs'}://{root}/{path}"
    return f"{uri.partition('?')[0].rstrip('/')}/{path}"


@dataclass(frozen=True)
class _Listing:
    """The files in the folder `metadata`, by name."""

    files: Mapping[str, FileStatus]

    @property
    def latest(self) -> int:
        """The last number of a version; 0 if there is none."""
        return max(metadata_numbers(self.files), default=0)

    @property
    def next(self) -> int:
        """The number of a new version. One whose metadata was lost has left files with its number."""
        written = (int(m[1]) for m in map(_WRITTEN.fullmatch, self.files) if m)
        return max(self.latest, *written, 0) + 1

    def opens(self, key: str, rows: int) -> bool:
        """Whether readers get what a key stands for: the last version is, and is complete.

        Args:
            key: stands for the address of the folder and for all data files.
            rows: number of rows of these.
        """
        for name, mark in self.files.items():
            if name.startswith(f"{self.latest}-{key}-") and name.endswith(MARK):
                stem, last = name.removesuffix(MARK), f"v{self.latest}.metadata.json"
                needed = [HINT, last, f"{stem}{LIST}", *([f"{stem}{FILES}"] if rows else [])]
                times = [self.files[n].modified for n in needed if n in self.files]
                # The mark is written last. What is later was changed since, or is the hint of a writer
                # that was late and may name another version.
                if len(times) == len(needed) and max(times) <= mark.modified:
                    return True
        return False

    def oldest_to_keep(self) -> int:
        """The version that was current `GRACE_S` seconds before the last one was written.

        Only times of the storage are compared, so the clock of this machine makes no difference.
        """
        written = {n: self.files[name].modified for n, name in metadata_numbers(self.files).items()}
        limit = written[self.latest] - GRACE_S
        return max((n for n, modified in written.items() if modified <= limit), default=0)

    def written_before(self, number: int) -> list[str]:
        """Return the names of the files of all versions before one. Files of other programs stay."""
        numbers = {name: n for n, name in metadata_numbers(self.files).items()}
        for name in self.files:
            if match := _WRITTEN.fullmatch(name):
                numbers[name] = int(match[1])
        return [name for name, found in numbers.items() if found < number]


class OpenFolder:
    """The folder by which a table of a recipe opens.

    Args:
        store: where it is.
        recipe: name of the recipe.
        table: name of the table.

    Raises:
        StoreError: a name cannot be that of a folder.
    """

    def __init__(self, store: Store, recipe: str, table: str) -> None:
        self.store, self.recipe, self.table = store, recipe, table
        path = open_path(recipe, table)
        self.address, self._metadata = open_address(store, path), f"{path}/metadata"

    def opens(self, manifest: Manifest) -> bool:
        """Whether readers get this version. One listing tells."""
        return self._list().opens(self._key(manifest), manifest.rows)

    def version(self) -> str | None:
        """Return the version that readers get; None if that is not known."""
        mark = latest_mark(self._list().files)
        if mark is None:
            return None
        with suppress(ValueError):
            content = self.store.storage.read(f"{self._metadata}/{mark}")
            return Published.from_json(content or b"").version
        return None

    def publish(self, manifest: Manifest, run: str = "") -> bool:
        """Let readers get a version. Nothing is written if they do already.

        Args:
            manifest: of the version, with all files in the store.
            run: the run that does it, for the properties of the table.

        Returns:
            Whether something was written.

        Raises:
            StoreError: a data file that tells the columns has vanished or is damaged.
        """
        key = self._key(manifest)
        listed = self._list()
        if listed.opens(key, manifest.rows):
            return False
        snapshot = self._snapshot(manifest, run)
        files = manifest_file(snapshot)
        while True:
            number = listed.next
            name = f"{number}-{key}-{uuid.uuid4()}"
            checksums = self._create(snapshot, files, number, name)
            if checksums is not None:
                break
            listed = self._list()
        listed = self._let_hint_name(number)
        if listed.latest == number:
            mark = Published(self.recipe, self.table, manifest.version, checksums)
            self._write(f"{name}{MARK}", mark.to_json())
        old = listed.written_before(listed.oldest_to_keep())
        self.store.storage.delete(f"{self._metadata}/{name}" for name in old)
        return True

    def _key(self, manifest: Manifest) -> str:
        # A version may be written again to other files, after some were lost.
        paths = [f.path for f in manifest.files]
        return digest([FORMAT, self.address, manifest.version, paths])[:KEY_DIGITS]

    def _list(self) -> _Listing:
        return _Listing(files_of(self.store, self._metadata))

    def _write(self, name: str, content: bytes) -> None:
        self.store.storage.write(f"{self._metadata}/{name}", content)

    def _create(
        self, snapshot: Snapshot, files: bytes, number: int, name: str
    ) -> dict[str, str] | None:
        """Write a version; return the checksums of its files, or None if its number was taken."""
        place = open_address(self.store, self._metadata)
        written = {f"{name}{FILES}": files} if snapshot.files else {}
        listed = manifest_list(snapshot, number, f"{place}/{name}{FILES}", len(files))
        written[f"{name}{LIST}"] = listed
        for part, content in written.items():
            self._write(part, content)
        metadata = table_metadata(snapshot, number, f"{place}/{name}{LIST}")
        last = f"v{number}.metadata.json"
        written[last] = metadata
        if not self.store.storage.create(f"{self._metadata}/{last}", metadata):
            return None
        return {part: sha256(content).hexdigest() for part, content in written.items()}

    def _let_hint_name(self, number: int) -> _Listing:
        """Make the hint name a version, unless it names a later one; return the one that it names."""
        while True:
            self._write(HINT, str(number).encode())
            listed = self._list()
            if listed.latest <= number:
                return listed
            number = listed.latest

    def _snapshot(self, manifest: Manifest, run: str) -> Snapshot:
        root = open_address(self.store, "")
        data_files = [DataFile(f"{root}{f.path}", f.size, f.rows) for f in manifest.files if f.rows]
        terms = contract(manifest.table)
        properties = {
            "comment": terms.grain,
            "curation.recipe": self.recipe,
            "curation.table": self.table,
            "curation.version": manifest.version,
            "curation.manifest": manifest_path(manifest.table, manifest.version),
            "curation.run": run,
        }
        schema = Schema(_arrow_schema(self.store, manifest), terms.dynamic)
        return Snapshot(self.address, schema, data_files, properties)


def _arrow_schema(store: Store, manifest: Manifest) -> pa.Schema:
    """Return the schema that all data files have; that of the contract if there are none."""
    records = sorted((r for r in manifest.fragments if r.files), key=lambda record: not record.rows)
    schema = Fragment(store, records[0]).schema() if records else None
    return contract(manifest.table).arrow_schema() if schema is None else schema


def publish(store: Store, recipe: str, manifest: Manifest, run: str = "") -> bool:
    """Let the folder of a recipe open a version of a table; see `OpenFolder.publish`."""
    return OpenFolder(store, recipe, manifest.table).publish(manifest, run)


def publish_all(store: Store, recipe: str, manifests: Sequence[Manifest], run: str) -> None:
    """Let the folders of a recipe open versions of several tables.

    Raises:
        TakenDownError: rows were taken down meanwhile. The folders are closed, and the next run opens
            them.
    """
    before = store.takedowns()
    written = in_parallel(lambda manifest: publish(store, recipe, manifest, run), manifests)
    # Whoever takes rows down writes first, and then looks for folders, so one sees the other.
    if any(written) and taken_down_since(store, before):
        for manifest in manifests:
            close(store, recipe, manifest.table)
        raise TakenDownError(
            f"Rows of {store.uri} were taken down while tables of {recipe!r} were published",
            fix="Run the same command again: it reuses what holds none of them",
        )


def close(store: Store, recipe: str, table: str) -> str:
    """Delete the folder by which a table of a recipe opens; return its path. The next run writes it."""
    path = open_path(recipe, table)
    store.storage.delete(without_linked(store.storage, store.storage.files(path, recursive=True)))
    return path


def published(store: Store) -> Iterator[OpenVersion]:
    """Yield what the folders of all recipes open now.

    Whoever removes files must keep those of these versions, or remove the folder first.
    """
    for recipe in store.storage.folders(FOLDER):
        for table in store.storage.folders(f"{FOLDER}/{recipe}"):
            version = OpenFolder(store, recipe, table).version()
            if version is not None:
                yield OpenVersion(recipe, table, version)
