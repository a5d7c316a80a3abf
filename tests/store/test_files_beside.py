"""Hidden files that file managers, network disks and killed writers leave in a store change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pytest

from curation.errors import StoreError
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.restore import tag_run
from curation.store.run_log import read_runs
from curation.store.step_log import Waiting
from curation.store.storage import local
from curation.store.storage.local import LocalStorage
from curation.store.store import Store
from curation.store.tombstones import Tombstone, open_takedowns, put_tombstone, read_takedowns
from curation.store.verification import verify_store

from ..tables import commit

ROW = {"role": "pool", "source": "web", "status": "eligible"}


def with_hidden_files(store: Store) -> None:
    """Put a hidden file beside every file, as macOS does on network disks, and into every folder."""
    for path in [p for p in Path(store.uri).rglob("*") if not p.name.startswith("._")]:
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
        else:
            (path / ".nfs00000000deadbeef").write_bytes(b"")


def test_hidden_files_are_no_files_of_a_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, "eligible", {"web-0": [ROW | {"pair_id": "p"}]})
    open_takedowns(store.storage)
    put_tombstone(store.storage, Tombstone("t", "2026-01-01T00:00:00+00:00", "me", "why"))
    (record,) = read_runs(store)
    tag_run(store, "v1", record.run, Waiting())
    takedowns = read_takedowns(store.storage)
    files = store.storage.files("", recursive=True)
    with_hidden_files(store)
    assert store.storage.files("", recursive=True) == files
    assert list(read_runs(store)) == [record]
    assert read_takedowns(store.storage) == takedowns
    assert verify_store(store) == []
    hidden = {path for path in tmp_path.rglob("*") if path.name.startswith(".")}
    collect(store, Retention(grace_s=0.0))
    assert {path for path in hidden if path.exists()} == hidden


class KilledError(BaseException):
    """The process ended here."""


@contextmanager
def killed_before_the_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process end before a file gets its name, so that nobody removes the unfinished one."""

    def end(*arguments: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Path, "replace", end)
        patch.setattr(local, "_remove", lambda path: None)
        yield


@pytest.mark.parametrize("links", [True, False])
def test_readers_of_a_folder_do_not_open_what_a_killed_writer_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    storage = LocalStorage(tmp_path)
    pd.DataFrame({"n": [1, 2]}).to_parquet(tmp_path / "a.parquet")
    storage.copy("a.parquet", "dataset/v/part-00000.parquet")
    if not links:

        def refuse(path: Path, target: Path) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    with killed_before_the_name(monkeypatch):
        storage.copy("a.parquet", "dataset/v/part-00001.parquet")
    with killed_before_the_name(monkeypatch):
        storage.write("dataset/v/part-00002.parquet", b"half")
    folder = tmp_path / "dataset" / "v"
    assert len(list(folder.iterdir())) == 3
    assert pd.read_parquet(folder)["n"].tolist() == [1, 2]
    assert ds.dataset(folder).count_rows() == 2
    assert len(storage.leftovers("dataset")) == 2


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("how", ["write", "create", "open_output"])
def test_a_folder_may_be_removed_as_empty_before_a_file_is_written_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, times: int
) -> None:
    """gc does so with those of reports and of tables that other programs open."""
    storage, made = LocalStorage(tmp_path), []
    ensure = local._ensure_folder

    def make_and_remove(folder: Path) -> None:
        ensure(folder)
        made.append(folder)
        if len(made) <= times:
            storage.delete_empty_folders("open")

    monkeypatch.setattr(local, "_ensure_folder", make_and_remove)
    path = "open/birds/images/metadata/v1.json"
    if how == "open_output":
        with storage.open_output(path) as stream:
            stream.write(b"a")
    else:
        getattr(storage, how)(path, b"a")
    assert storage.read(path) == b"a"
    assert len(made) == times + 1


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises((StoreError, OSError)):
        LocalStorage(tmp_path).write("a/b", b"")
