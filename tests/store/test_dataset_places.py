"""`STORE`, `STORE@VERSION` and `STORE@RUN`, where names have an @ of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import StoreError
from curation.inspect.diff import open_dataset
from curation.store.run_log import latest_run
from curation.store.store import Store

from ..tables import commit

NAMES = ("plain", "me@home", "a@b@c", "@", "me@home/deep", "x@1/y@2")


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_a_folder_can_be_compared(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / name)
    commit(store, "dataset", {})
    record = latest_run(store, "dataset")
    assert record is not None
    version = record.tables["dataset"]
    for place in (store.uri, f"{store.uri}@{version[:8]}", f"{store.uri}@{record.run[:20]}"):
        table = open_dataset(place)
        assert (table.store.uri, table.manifest.version) == (store.uri, version)
    with pytest.raises(StoreError, match="begin with 'none'"):
        open_dataset(f"{store.uri}@none")


@pytest.mark.parametrize(
    "address", ["abfs://c@a.dfs.core.windows.net", "abfss://c@a.dfs.core.windows.net"]
)
def test_the_at_of_a_machine_begins_no_version(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("curation.inspect.diff.Store", opened.append)
    monkeypatch.setattr("curation.inspect.diff.open_table", lambda *args, **names: names)
    open_dataset(address)
    assert opened == [address]
