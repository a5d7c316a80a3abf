"""Records of a store that another version of curation wrote, and files that nobody wrote for it."""

from __future__ import annotations

import io
import json
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.errors import LeaseError, StoreError
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.store.digest import digest
from curation.store.holder import this_process
from curation.store.manifest import Committed
from curation.store.manifest_file import _records
from curation.store.run_log import read_runs, recorded_run
from curation.store.sealed_json import seal, unseal
from curation.store.step_log import Entry, StepLog, Waiting, hold
from curation.store.store import Store
from curation.store.tags import add_tag, read_tags, tag_path
from curation.store.tombstones import (
    KEY,
    Hits,
    Tombstone,
    open_takedowns,
    put_hits,
    put_tombstone,
    read_takedowns,
)
from curation.store.used_work import put_used_memos, used_memos
from curation.store.verification import verify_store

from ..tables import commit


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def changed(store: Store, path: str, **fields: object) -> None:
    """Write other fields into a record, with a right checksum."""
    spec = unseal(store.storage.read(path) or b"")
    store.storage.write(path, seal(spec | fields))


@pytest.mark.parametrize("fields", [{"format": 2}, {"more": 1}])
def test_a_run_of_another_version_is_named(
    store: Store, caplog: pytest.LogCaptureFixture, fields: dict[str, object]
) -> None:
    with recorded_run(store, "recipe", "f") as run:
        pass
    changed(store, run.record.path, **fields)
    assert list(read_runs(store)) == []
    assert f"{run.record.path} was written by another version of curation" in caplog.text


def test_the_lease_of_another_version_is_not_taken_for_a_damaged_one(store: Store) -> None:
    log = StepLog(store, "step")
    assert log.add(Entry(1, "commit", tables={"t": Committed("v", "k")}))
    assert log.add(Entry(2, "lease", this_process("other")))
    changed(store, log.path(2), format=2)
    for look in (log.latest, lambda: take(log)):
        with pytest.raises(StoreError, match=r".format 2 instead of 1.*Use the"):
            look()
    assert log.numbers() == [1, 2]


def take(log: StepLog) -> None:
    with hold(log, this_process("mine"), "stage", {}, Waiting(wait=False)):
        raise AssertionError("it took the lease of a run that may work")


@pytest.mark.parametrize("fields", [{"more": 1}, {"hashes": {"video": ["00"]}}, {"likes": [{}]}])
def test_a_tombstone_of_another_version_stops_readers(
    store: Store, fields: dict[str, object]
) -> None:
    open_takedowns(store.storage)
    put_tombstone(store.storage, Tombstone("t", "2026-01-01T00:00:00+00:00", "me", "why"))
    assert read_takedowns(store.storage) is not None
    changed(store, "tombstones/t.json", **fields)
    with pytest.raises(StoreError, match="another version of curation, so this one does not know"):
        read_takedowns(store.storage)


STRAY = ("00000001 (copy).json", "._00000002.json", "notes.json", "x.json", "00000001.json.bak")


@pytest.mark.parametrize("name", STRAY)
def test_files_beside_the_entries_of_a_log_are_no_entries(store: Store, name: str) -> None:
    """As file managers and programs that synchronise folders leave them. gc believes the lease, too."""
    log = StepLog(store, "step")
    with recorded_run(store, "recipe", "f"):
        pass
    store.storage.write(f"{log.folder}/{name}", json.dumps({"format": 1}).encode())
    assert log.latest().number == 0
    holder = this_process("mine")
    with hold(log, holder, "stage", {}, Waiting()) as lease:
        store.storage.write(f"{log.folder}/{name}", b"{}")
        assert lease.is_held
        collect(store, Retention(grace_s=0.0))
        assert lease.is_held
        with pytest.raises(LeaseError):
            take(log)
        lease.commit({"t": Committed("v", "k")})
    assert log.latest().tables == {"t": Committed("v", "k")}


ODD_FIELDS: list[dict[str, object]] = [
    {"rows": {"fetch": "\x1b[2J"}},
    {"rows": None},
    {"stages": ["fetch"]},
    {"tables": [[[]]]},
    {"tables": {"images": ["v"]}},
    {"outcomes": {"fetch": 9}},
    {"started": None},
]


@pytest.mark.parametrize("fields", ODD_FIELDS)
def test_a_run_whose_fields_have_other_types_is_damaged(
    store: Store, fields: dict[str, object]
) -> None:
    """Commands that show runs, as status, would end with a trace."""
    with recorded_run(store, "recipe", "f") as run:
        pass
    changed(store, run.record.path, **fields)
    assert list(read_runs(store)) == []


def test_a_tag_whose_fields_have_other_types_is_damaged(store: Store) -> None:
    add_tag(store, "v1", "20260101T000000.000000Z-abcdef")
    changed(store, tag_path("v1"), run=[])
    with pytest.raises(StoreError, match=r"is damaged .*other types"):
        read_tags(store)


def test_a_record_in_the_place_of_another_is_damaged(store: Store) -> None:
    """Each is whole in itself, so its checksum is right."""
    for _ in range(2):
        with recorded_run(store, "recipe", "f"):
            pass
    names = [record.run for record in read_runs(store)]
    for tag, run in zip(("v1", "v2"), names, strict=True):
        add_tag(store, tag, run)
    log = StepLog(store, "step")
    with hold(log, this_process("mine"), "stage", {}, Waiting()):
        pass
    assert verify_store(store) == []
    lease, release = log.entries()
    for path, other in (
        (tag_path("v1"), tag_path("v2")),
        (log.path(release.number), log.path(lease.number)),
        *[sorted(store.storage.files("runs"))[:2]],
    ):
        store.storage.write(path, store.storage.read(other) or b"")
        assert path in {problem.path for problem in verify_store(store)}
    assert log.latest().is_damaged
    assert len(list(read_runs(store))) == 1
    with pytest.raises(StoreError, match="that of tag 'v2'"):
        read_tags(store)


def test_no_record_passes_for_another_of_any_kind(store: Store) -> None:
    """Whatever stands in the place of a record is reported, and readers do not take it for it."""
    storage = store.storage
    commit(store, "pairs", {"a": []})
    runs = len(list(read_runs(store))) + 2
    for number in range(2):
        with recorded_run(store, "recipe", "f") as run:
            pass
        add_tag(store, f"v{number}", run.record.run)
        store.put_key("pairs", digest(["key", number]), f"version {number}")
        put_used_memos(store, "verify", digest(["step", number]), [f"memo {number}"])
        with hold(StepLog(store, f"step{number}"), this_process("me"), "stage", {}, Waiting()):
            pass
        put_tombstone(storage, Tombstone(f"t{number}", "2026", "me", "why"))
        put_hits(storage, Hits(f"h{number}", (f"t{number}",)))
    open_takedowns(storage)
    assert verify_store(store) == []
    read_takedowns(storage)
    paths = [p for p in sorted(storage.files("", recursive=True)) if p.endswith(".json")]
    last = {StepLog(store, f"step{n}").path(2) for n in range(2)}
    paths = [p for p in paths if not p.startswith("steps/") or p in last]
    paths = [path for path in paths if "/done/" not in path]
    assert len(paths) == runs + 13, paths
    contents = {path: storage.read(path) or b"" for path in paths}
    for path, other in product(paths, paths):
        if path in (other, KEY) or contents[path] == contents[other]:
            continue
        storage.write(path, contents[other])
        assert path in {problem.path for problem in verify_store(store)}, (path, other)
        check_readers(store, path, runs)
        storage.write(path, contents[path])
    assert verify_store(store) == []


def check_readers(store: Store, path: str, runs: int) -> None:
    """What a damaged record said is unknown, or an error says so."""
    folder, _, name = path.rpartition("/")
    stem = name.removesuffix(".json")
    if folder == "runs":
        assert len(list(read_runs(store))) == runs - 1
    elif folder == "tags":
        with pytest.raises(StoreError, match="is damaged"):
            read_tags(store)
    elif folder.startswith("tombstones"):
        with pytest.raises(StoreError, match="which rows were taken down"):
            read_takedowns(store.storage)
    elif folder.startswith("steps"):
        assert StepLog(store, folder.partition("/")[2]).latest().is_damaged
    elif folder.startswith("tables"):
        assert store.version_for_key("pairs", stem) is None
    else:
        assert used_memos(store, "verify", stem) == set()


def test_a_manifest_with_a_text_that_is_nested_without_end_is_damaged(store: Store) -> None:
    commit(store, "pairs", {"a": []})
    (path,) = store.storage.files("tables/pairs/versions")
    rows = pq.read_table(io.BytesIO(store.storage.read(path) or b""))
    at = rows.schema.get_field_index("stats")
    with pytest.raises(ValueError, match="nested"):
        list(_records(rows.set_column(at, "stats", [["[" * 500_000]])))


def test_a_log_that_vanished_is_a_lost_lease(store: Store) -> None:
    log = StepLog(store, "step")
    with hold(log, this_process("mine"), "stage", {}, Waiting()) as lease:
        store.storage.delete_folder(log.folder)
        with pytest.raises(LeaseError):
            lease.check()


def test_a_record_that_is_nested_without_end_is_damaged(store: Store) -> None:
    with recorded_run(store, "recipe", "f") as run:
        pass
    for content in (b"[" * 500_000, b'{"a":' * 500_000):
        with pytest.raises(ValueError, match="nested"):
            unseal(content)
        store.storage.write(run.record.path, content)
        assert list(read_runs(store)) == []
