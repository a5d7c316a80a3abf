"""The records of runs when requests take effect late, or between two requests of a reader."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.restore import tag_run
from curation.store.run_log import StageSummary, find_run, read_runs, recorded_run
from curation.store.run_record import FOLDER, RunRecord
from curation.store.step_log import Waiting
from curation.store.storage.local import LocalStorage
from curation.store.store import Store


class Recording(LocalStorage):
    """A folder that remembers what was written."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: list[tuple[str, bytes]] = []

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        self.written.append((path, content))
        super().write(path, content)


@pytest.fixture
def storage(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "store")


@pytest.fixture
def store(storage: Recording) -> Store:
    return Store(storage.uri, storage)


def run_once(store: Store, fails: bool = False) -> RunRecord:
    with suppress(RuntimeError), recorded_run(store, "recipe", "fingerprint") as run:
        run.add("fetch", StageSummary(3), {}, "step")
        if fails:
            raise RuntimeError("no space")
    return run.record


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_no_request_that_takes_effect_late_changes_how_a_run_ended(
    store: Store, storage: Recording, state: str
) -> None:
    record = run_once(store, state == "failed")
    assert record.state == state
    for path, content in storage.written:
        LocalStorage.write(storage, path, content)
        assert list(read_runs(store)) == [record]
        assert find_run(store, record.run[:20]) == record


def test_a_run_that_ends_between_the_listing_and_the_reading_is_seen(
    store: Store, storage: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recorded_run(store, "recipe", "fingerprint") as run:
        listed = storage.files(FOLDER)
        assert [record.state for record in read_runs(store)] == ["running"]
    monkeypatch.setattr(storage, "files", lambda folder: listed)
    assert list(read_runs(store)) == [run.record]
    assert find_run(store, run.record.run) == run.record


def test_gc_removes_what_a_late_request_left(store: Store, storage: Recording) -> None:
    record = run_once(store)
    tag_run(store, "mine", record.run, Waiting())
    for path, content in storage.written:
        LocalStorage.write(storage, path, content)
    assert len(storage.files(FOLDER)) == 2
    collected = collect(store, Retention(grace_s=0.0))
    assert list(collected.kept) == [record.run]
    assert list(storage.files(FOLDER)) == [record.path]


@pytest.mark.parametrize("links", [True, False])
def test_a_run_on_a_store_without_conditions_warns(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, links: bool
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, "no hard links")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    assert run_once(store).state == "finished"
    warning = f"The store {store.uri} cannot create a file only if it is not there."
    assert (warning in caplog.text) is not links
    assert ("use it by one run at a time" in caplog.text) is not links
