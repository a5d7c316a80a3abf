"""Publishing a version by its folder: races, interruptions, other writers, and what it costs."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import StaticTable

from curation.engine.iceberg import GRACE_S, OpenFolder, open_address, publish, published
from curation.engine.table import Table, open_table
from curation.errors import StoreError
from curation.store.manifest import Manifest
from curation.store.open_files import check_open_files
from curation.store.sealed_json import seal, unseal
from curation.store.storage.local import LocalStorage
from curation.store.store import Store

from ..tables import commit
from .readers import READERS, Rows


class Recording(LocalStorage):
    """A folder that counts what is asked of it, and can stop a writer after some files."""

    def __init__(self, root: Path, stop_after: int | None = None) -> None:
        super().__init__(root)
        self.calls: list[str] = []
        self._left = stop_after

    def _written(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise KeyboardInterrupt

    def read(self, path: str) -> bytes | None:
        self.calls.append("read")
        return super().read(path)

    def files(self, folder: str, recursive: bool = False) -> Any:
        self.calls.append("files")
        return super().files(folder, recursive)

    def write(self, path: str, content: bytes) -> None:
        self.calls.append("write")
        self._written()
        super().write(path, content)

    def create(self, path: str, content: bytes) -> bool:
        self.calls.append("create")
        self._written()
        return super().create(path, content)


def version(store: Store, first: int) -> Manifest:
    """A version of `head_scores` with one fragment of four rows, which begin with a number."""
    rows = [{"pair_id": f"{n:032x}"} for n in range(first, first + 4)]
    commit(store, "head_scores", {"web-0": rows})
    manifest = open_table(store, "head_scores").manifest
    return replace(manifest, version=f"{first:032x}")


def folder(store: Store) -> Path:
    return Path(store.uri, "open", "birds", "head_scores")


def metadata(store: Store) -> set[str]:
    return {path.name for path in (folder(store) / "metadata").iterdir()}


def opened(store: Store) -> Rows:
    return READERS["pyiceberg"](str(folder(store)))


def rows_of(store: Store, manifest: Manifest) -> Rows:
    rows: Rows = Table(store, manifest).read().to_pylist()
    return rows


def make_older(store: Store, seconds: float) -> None:
    """Let all files of the folder be older."""
    for path in (folder(store) / "metadata").iterdir():
        modified = path.stat().st_mtime - seconds
        os.utime(path, (modified, modified))


def test_an_unchanged_version_costs_one_listing(tmp_path: Path) -> None:
    manifest = version(Store(tmp_path), 0)
    publish(Store(tmp_path), "birds", manifest)
    before = metadata(Store(tmp_path))
    storage = Recording(tmp_path)
    publish(Store(tmp_path, storage), "birds", manifest)
    assert storage.calls == ["files"]
    assert metadata(Store(tmp_path)) == before


def test_a_new_version_costs_a_few_requests(tmp_path: Path) -> None:
    storage = Recording(tmp_path)
    publish(Store(tmp_path, storage), "birds", version(Store(tmp_path), 0))
    assert sorted(storage.calls) == ["create", "files", "files", *["write"] * 4]


def test_metadata_stays_while_readers_may_be_opening_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifests = [version(store, n) for n in range(0, 40, 10)]
    kept = []
    for manifest in manifests:
        publish(store, "birds", manifest)
        kept.append({n for n in metadata(store) if n.endswith(".metadata.json")})
    assert kept[-1] == {f"v{n}.metadata.json" for n in (1, 2, 3, 4)}
    make_older(store, GRACE_S + 1)
    (folder(store) / "metadata" / "notes.txt").write_text("of somebody else", encoding="utf-8")
    publish(store, "birds", manifests[0])
    # The one before the current one stays: it was current a moment ago.
    left = metadata(store)
    assert {n for n in left if n.endswith(".metadata.json")} == {
        "v4.metadata.json",
        "v5.metadata.json",
    }
    assert {n.split("-")[0] for n in left if n.endswith(".avro")} == {"4", "5"}
    assert "notes.txt" in left
    assert opened(store) == rows_of(store, manifests[0])
    before = StaticTable.from_metadata(str(folder(store) / "metadata" / "v4.metadata.json"))
    assert before.scan().to_arrow().to_pylist() == rows_of(store, manifests[3])


@pytest.mark.parametrize("written", range(5))
def test_an_interrupted_publication_shows_one_version_whole_and_is_made_up_for(
    tmp_path: Path, written: int
) -> None:
    store = Store(tmp_path)
    first, second = version(store, 0), version(store, 10)
    publish(store, "birds", first)
    stopped = Store(tmp_path, Recording(tmp_path, stop_after=written))
    with pytest.raises(KeyboardInterrupt):
        publish(stopped, "birds", second)
    assert opened(store) == rows_of(store, first if written < 4 else second)
    assert not OpenFolder(store, "birds", "head_scores").opens(second)
    publish(store, "birds", second)
    assert opened(store) == rows_of(store, second)
    assert OpenFolder(store, "birds", "head_scores").opens(second)


def test_racing_writers_leave_one_version_and_readers_never_fail(tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifests = [version(store, n) for n in range(0, 40, 10)]
    allowed = [rows_of(store, manifest) for manifest in manifests]
    publish(store, "birds", manifests[0])
    ended = threading.Event()

    def write(manifest: Manifest) -> None:
        for _ in range(6):
            publish(Store(tmp_path), "birds", manifest)

    def read() -> int:
        reads = 0
        while not ended.is_set() or not reads:
            assert opened(store) in allowed
            reads += 1
        return reads

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for done in [pool.submit(write, manifest) for manifest in manifests]:
                done.result()
        finally:
            ended.set()
        assert sum(reader.result() for reader in readers) > 1
    last = max(int(n[1:-14]) for n in metadata(store) if n.endswith(".metadata.json"))
    assert (folder(store) / "metadata" / "version-hint.text").read_text() == str(last)
    publish(store, "birds", manifests[2])
    assert opened(store) == allowed[2]


def test_a_late_hint_of_another_writer_is_corrected(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = version(store, 0), version(store, 10)
    publish(store, "birds", first)
    publish(store, "birds", second)
    store.storage.write("open/birds/head_scores/metadata/version-hint.text", b"1")
    assert opened(store) == rows_of(store, first)
    publish(store, "birds", second)
    assert opened(store) == rows_of(store, second)


def test_what_another_program_wrote_into_the_folder_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifest = version(store, 0)
    publish(store, "birds", manifest)
    place = folder(store) / "metadata"
    spec = json.loads((place / "v1.metadata.json").read_text(encoding="utf-8"))
    spec |= {"current-snapshot-id": -1, "snapshots": [], "refs": {}, "snapshot-log": []}
    (place / "v2.metadata.json").write_text(json.dumps(spec), encoding="utf-8")
    (place / "version-hint.text").write_text("2", encoding="utf-8")
    assert opened(store) == []
    publish(store, "birds", manifest)
    assert opened(store) == rows_of(store, manifest)


@pytest.mark.parametrize("lost", ["files.avro", "list.avro", "metadata.json", "version-hint.text"])
def test_lost_metadata_is_written_again(tmp_path: Path, lost: str) -> None:
    store = Store(tmp_path)
    manifest = version(store, 0)
    publish(store, "birds", manifest)
    (file,) = (n for n in metadata(store) if n.endswith(lost))
    (folder(store) / "metadata" / file).unlink()
    publish(store, "birds", manifest)
    assert opened(store) == rows_of(store, manifest)


@pytest.mark.parametrize(
    "fields", [{"sha256": {"../../../../../mine": "0"}}, {"sha256": None}, {"version": [[]]}]
)
def test_a_mark_of_others_names_nothing_outside_of_its_folder(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    store = Store(tmp_path / "store")
    publish(store, "birds", version(store, 0))
    (mark,) = (folder(store) / "metadata").glob("*-published.json")
    mark.write_bytes(seal(unseal(mark.read_bytes()) | fields))
    (problem,) = check_open_files(store, None)
    assert problem.path == mark.relative_to(store.uri).as_posix()
    assert problem.to_set_aside == (problem.path,)
    assert list(published(store)) == []


def test_a_table_without_files_opens_as_empty(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, "dataset", {})
    publish(store, "birds", open_table(store, "dataset").manifest)
    place = f"{store.uri}/open/birds/dataset"
    names = StaticTable.from_metadata(place).scan().to_arrow().schema.names
    assert names == open_table(store, "dataset").read().schema.names
    for reader in ("pyiceberg", "polars"):
        assert READERS[reader](place) == []


@pytest.mark.parametrize(
    "name", ["a b", "per%20cent", "num#ber", "que?ry", "plus+and&", "ünïcode", "it's", "a=b"]
)
def test_a_store_with_an_odd_name_opens(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / name)
    manifest = version(store, 0)
    publish(store, "birds", manifest)
    for reader in ("pyiceberg", "polars", "pandas"):
        assert READERS[reader](str(folder(store))) == rows_of(store, manifest)


@pytest.mark.parametrize("recipe", ["", "..", "a/b", "../x", "a?b", "a#b", ".hidden", "ä"])
def test_a_name_that_is_no_safe_folder_is_refused(tmp_path: Path, recipe: str) -> None:
    with pytest.raises(StoreError, match="cannot name the folder"):
        OpenFolder(Store(tmp_path), recipe, "images")


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("s3://bucket/a/b?region=eu-west-1&scheme=http", "s3://bucket/a/b/open"),
        ("s3://bucket/a%20b?region=eu-west-1", "s3://bucket/a b/open"),
        ("s3://bucket?region=eu-west-1", "s3://bucket/open"),
    ],
)
def test_addresses_on_object_stores_are_plain(uri: str, address: str) -> None:
    assert open_address(Store(uri), "open") == address


def test_what_is_published_is_listed_for_whoever_removes_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = version(store, 0), version(store, 10)
    publish(store, "birds", first)
    publish(store, "other", second)
    assert {tuple(entry) for entry in published(store)} == {
        ("birds", "head_scores", first.version),
        ("other", "head_scores", second.version),
    }
    assert OpenFolder(store, "other", "head_scores").version() == second.version


class Overtaken(LocalStorage):
    """A folder in which another writer publishes a version just before the hint is written."""

    other: Manifest | None = None

    def write(self, path: str, content: bytes) -> None:
        if path.endswith("version-hint.text") and self.other is not None:
            other, self.other = self.other, None
            publish(Store(self.root), "birds", other)
        super().write(path, content)


def test_a_writer_that_was_overtaken_leaves_the_later_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    storage = Overtaken(tmp_path)
    first, second = version(store, 0), version(store, 10)
    storage.other = second
    publish(Store(tmp_path, storage), "birds", first)
    assert opened(store) == rows_of(store, second)


@pytest.mark.parametrize("ending", ["files.avro", "list.avro", "metadata.json", "hint.text"])
@pytest.mark.parametrize("kept", [0, 10])
def test_metadata_that_is_cut_short_is_written_again(
    tmp_path: Path, ending: str, kept: int
) -> None:
    store = Store(tmp_path)
    manifest = version(store, 0)
    publish(store, "birds", manifest)
    (name,) = (n for n in metadata(store) if n.endswith(ending))
    path = folder(store) / "metadata" / name
    path.write_bytes(path.read_bytes()[:-1][:kept])
    # Clocks of file systems tick some hundred times a second.
    os.utime(path, times=(path.stat().st_mtime + 1,) * 2)
    assert publish(store, "birds", manifest)
    assert opened(store) == rows_of(store, manifest)
    assert not publish(store, "birds", manifest)
