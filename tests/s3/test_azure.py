"""Runs on an emulator of Azure: the rows of a run on disk, nothing to do again, gc and checks."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.object_store.shapes import write_shapes
from curation.errors import StoreError
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.store.manifest import Committed
from curation.store.step_log import Entry, StepLog
from curation.store.store import Store
from curation.store.verification import verify_store

from ..runs import run_recipe
from .azurite import CONTAINER
from .flow import rows_of

pytestmark = pytest.mark.nightly
ROWS = 14
RACES = 50


@pytest.mark.timeout(600)
def test_a_run_a_rerun_and_gc(new_azure_address: Callable[[], str], tmp_path: Path) -> None:
    spec = write_shapes(tmp_path / "sources", ROWS)
    on_disk, store = Store(tmp_path / "store"), Store(new_azure_address())
    for each in (on_disk, store):
        run_recipe(spec, each)
    assert store.storage.can_create_exclusively
    assert store.storage.root.startswith(f"{CONTAINER}/store-")
    assert store.address("tables/x") == f"{store.storage.uri}/tables/x"
    assert rows_of(store) == rows_of(on_disk)
    assert all(result.up_to_date for result in run_recipe(spec, store))
    assert len(collect(store, Retention(grace_s=0.0)).removed) == 1
    assert verify_store(store) == []
    assert rows_of(store) == rows_of(on_disk)


def test_one_of_two_commits(new_azure_address: Callable[[], str]) -> None:
    address = new_azure_address()
    logs = [StepLog(Store(address), "step") for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for number in range(1, RACES + 1):
            entries = [
                Entry(number, "commit", tables={"t": Committed(f"{number}-{writer}", "k")})
                for writer in range(2)
            ]
            added = list(pool.map(StepLog.add, logs, entries))
            assert sorted(added) == [False, True]
            latest = logs[0].latest()
            assert latest.unique == entries[added.index(True)].unique


def test_an_endpoint_of_another_account_is_refused(
    new_azure_address: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/other")
    with pytest.raises(
        StoreError, match=r"account of the address is 'devstoreaccount1'.*HOST:PORT"
    ):
        Store(new_azure_address())


@pytest.mark.parametrize("name", ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"])
def test_a_key_of_the_environment_serves_readers_and_writers(
    new_azure_address: Callable[[], str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, os.environ["AZURE_STORAGE_ACCOUNT_KEY"])
    if name != "AZURE_STORAGE_ACCOUNT_KEY":
        monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    store = Store(new_azure_address())
    store.storage.write("a", b"1")
    with store.storage.filesystem.open_input_file(f"{store.storage.root}/a") as stream:
        assert stream.read() == b"1"


def test_sources_are_read_with_the_key_of_the_environment(
    new_azure_address: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_shapes(tmp_path / "sources", ROWS)
    on_disk = Store(tmp_path / "store")
    run_recipe(spec, on_disk)
    uploaded = Store(new_azure_address())
    for source in spec["sources"]:
        local = Path(source["path"])
        source["path"] = f"{uploaded.storage.uri}/{local.name}"
        for file in [local] if local.is_file() else filter(Path.is_file, local.rglob("*")):
            uploaded.storage.write(str(file.relative_to(local.parent)), file.read_bytes())
    run_recipe(spec, from_azure := Store(tmp_path / "from_azure"))
    images = [row["image_id"] for row in rows_of(on_disk)["images"]]
    assert images and images == [row["image_id"] for row in rows_of(from_azure)["images"]]
    # Without TLS no other credentials are tried.
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "another")
    with pytest.raises(StoreError, match=r"no file can be listed .*Bearer token"):
        run_recipe(spec, Store(tmp_path / "refused"))
