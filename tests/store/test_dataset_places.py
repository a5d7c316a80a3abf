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
    with pytest.raises(StoreError, match="has the tag 'none'"):
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


OPTIONS = "region=eu-west-1&endpoint_override=host:9000&scheme=http"


@pytest.mark.parametrize(
    ("place", "run"),
    [
        (f"s3://bucket/a?{OPTIONS}", None),
        (f"s3://bucket/a@20261128T?{OPTIONS}", "20261128T"),
        (f"s3://bucket/a?{OPTIONS}@20261128T", "20261128T"),
    ],
)
def test_a_run_may_stand_before_or_after_the_options_of_an_address(
    place: str, run: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    runs: list[str | None] = []

    class Opened:
        def __init__(self, uri: str) -> None:
            opened.append(uri)

        def versions(self, table: str) -> list[str]:
            return []

    monkeypatch.setattr("curation.inspect.diff.Store", Opened)
    monkeypatch.setattr(
        "curation.inspect.diff.open_table", lambda *args, run=None: runs.append(run)
    )
    open_dataset(place)
    assert runs == [run]
    assert opened == [f"s3://bucket/a?{OPTIONS}"]
