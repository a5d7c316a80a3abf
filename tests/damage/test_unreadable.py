"""Small files of a store that cannot be read: what people are told, and what goes on without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curation.engine.table import open_table
from curation.errors import StoreError
from curation.store.manifest import Committed
from curation.store.manifest_file import OtherFormatError, read_manifest, write_manifest
from curation.store.run_log import StageSummary, find_run, latest_run, read_runs, recorded_run
from curation.store.sealed_json import seal, unseal
from curation.store.step_log import Entry, StepLog
from curation.store.store import Store
from tests.tables import hand_made

from ..tables import commit
from .finished import flip, truncate


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one table, of one finished run."""
    opened = Store(tmp_path)
    commit(opened, "pairs", {})
    return opened


def test_a_missing_manifest_is_named_with_a_way_to_mend_it(store: Store) -> None:
    (record,) = read_runs(store)
    version = record.tables["pairs"]
    store.storage.delete([f"tables/pairs/versions/{version}.parquet"])
    for names in ({}, {"run": record.run}):
        with pytest.raises(
            StoreError,
            match=rf"manifest of version {version} of table 'pairs'.*Run the recipe again",
        ):
            open_table(store, "pairs", **names)


@pytest.mark.parametrize("damage", [flip, truncate])
def test_a_damaged_record_of_a_run_is_left_out_with_a_warning(
    store: Store, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    (first,) = read_runs(store)
    with recorded_run(store, "later", "later") as run:
        tables = {"pairs": Committed(first.tables["pairs"], "")}
        run.add("hand", StageSummary(0), tables, "hand")
    assert latest_run(store, "pairs") == find_run(store, run.record.run)
    damage(Path(store.uri, run.record.path))
    assert latest_run(store, "pairs") == first
    assert f"{run.record.path} is damaged" in caplog.text
    assert open_table(store, "pairs").manifest.version == first.tables["pairs"]
    with pytest.raises(
        StoreError, match=rf"run {run.record.run} .* is damaged.*Run its recipe again"
    ):
        find_run(store, run.record.run)


def test_a_changed_digit_of_a_record_is_not_believed(store: Store) -> None:
    (record,) = read_runs(store)
    path = Path(store.uri, record.path)
    path.write_bytes(path.read_bytes().replace(b'"seconds": 0', b'"seconds": 9'))
    assert list(read_runs(store)) == []


@pytest.mark.parametrize("damage", [flip, truncate])
def test_a_damaged_last_entry_of_a_log_counts_as_the_end_of_its_lease(
    store: Store, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    log = StepLog(store, "step")
    tables = {"pairs": Committed("v1", "k1")}
    assert log.add(Entry(1, "commit", tables=tables))
    assert log.add(Entry(2, "lease", tables=tables))
    damage(Path(store.uri, log.path(2)))
    last = log.latest()
    assert (last.number, last.kind, last.tables) == (2, "release", tables)
    assert f"{log.path(2)} is damaged" in caplog.text
    # Its holder, if it lives, has lost the lease: the next entry belongs to another.
    assert log.add(Entry(3, "lease", tables=tables))
    assert log.latest().number == 3


def test_a_log_without_an_entry_that_can_be_read_goes_on_after_the_last(store: Store) -> None:
    log = StepLog(store, "step")
    assert log.add(Entry(1, "commit"))
    truncate(Path(store.uri, log.path(1)))
    last = log.latest()
    assert (last.number, last.kind, last.tables) == (1, "release", {})


def test_a_seal_is_broken_by_every_changed_bit() -> None:
    content = seal({"a": 1, "b": {"2": [1.5, None, "x"]}})
    assert unseal(content) == {"a": 1, "b": {"2": [1.5, None, "x"]}}
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            with pytest.raises(ValueError):
                unseal(bytes(changed))


@pytest.mark.parametrize("content", [b'{"a": 1}', b"[1]", b"1", b""])
def test_json_without_a_checksum_is_not_believed(content: bytes) -> None:
    with pytest.raises(ValueError):
        unseal(content)


def test_a_manifest_is_not_believed_after_any_changed_byte() -> None:
    content = write_manifest(hand_made("x", "v1", [], {}))
    assert read_manifest(content, "x", "v1").version == "v1"
    for other in (("y", "v1"), ("x", "v2")):
        with pytest.raises(ValueError, match="version v1 of x"):
            read_manifest(content, *other)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises((ValueError, OSError)) as raised:
            read_manifest(bytes(changed), "x", "v1")
        assert not isinstance(raised.value, OtherFormatError)
