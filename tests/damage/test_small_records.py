"""Small records of every kind that are empty, cut off or garbage: reported, with what mends them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.engine.iceberg import publish
from curation.engine.table import open_table
from curation.errors import StoreError
from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.restore import tag_run
from curation.store.open_files import FOLDER as OPEN
from curation.store.run_log import read_runs, recorded_run
from curation.store.step_log import Entry, StepLog, Waiting
from curation.store.store import SET_ASIDE_SUFFIX, Store
from curation.store.tags import delete_tag, find_tag, read_tags
from curation.store.tombstones import (
    HITS,
    KEY,
    Hits,
    Tombstone,
    open_takedowns,
    put_hits,
    put_removed,
    put_tombstone,
)
from curation.store.used_work import put_used_memos
from curation.store.verification import verify_store

from ..tables import commit
from .finished import empty, flip, truncate

DIGEST = "0123456789abcdef" * 2


def garbage(path: Path) -> None:
    """Replace a file by brackets that never close, more than a parser can nest."""
    path.write_bytes(b"[" * 200_000)


BROKEN: tuple[Callable[[Path], None], ...] = (empty, truncate, flip, garbage)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with a record of each kind."""
    opened = Store(tmp_path / "store")
    commit(opened, "pairs", {})
    (record,) = read_runs(opened)
    tag_run(opened, "v1", record.run, Waiting())
    assert StepLog(opened, "step").add(Entry(1, "commit"))
    put_used_memos(opened, "dedup", DIGEST, ["a"])
    opened.put_key("pairs", DIGEST, record.tables["pairs"])
    open_takedowns(opened.storage)
    put_tombstone(opened.storage, Tombstone("t1", "2026-01-01T00:00:00+00:00", "me", "why"))
    put_hits(opened.storage, Hits("h1", ("t1",)))
    put_removed(opened.storage, {"removed": {}})
    return opened


KINDS = {
    "tags/": "curation tag v1 --delete",
    "tombstones/t1.json": "backup",
    KEY: "backup",
    f"{HITS}/": "backup",
    "tombstones/removed/": "backup",
    "runs/": "--set-aside",
    "work/dedup/used/": "--set-aside",
    "tables/pairs/keys/": "--set-aside",
    "steps/": "curation run",
}


@pytest.mark.parametrize("damage", BROKEN)
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_record_is_reported_with_what_mends_it(
    store: Store, kind: str, damage: Callable[[Path], None]
) -> None:
    assert verify_store(store) == []
    (path, *_) = [p for p in store.storage.files("", recursive=True) if p.startswith(kind)][-1:]
    damage(Path(store.uri, path))
    (problem,) = verify_store(store)
    assert problem.path == path
    assert KINDS[kind] in problem.remedy(store.uri)
    (after,) = verify_store(store, set_aside=True)
    if "--set-aside" in KINDS[kind]:
        assert after.set_aside == (f"{path}{SET_ASIDE_SUFFIX}",)
        assert verify_store(store) == []
    else:
        assert store.storage.status(path) is not None


def test_the_key_of_takedowns_is_missed(store: Store) -> None:
    store.storage.delete([KEY])
    (problem,) = verify_store(store)
    assert (problem.path, problem.problem) == (KEY, "is missing")


def test_the_command_that_mends_a_tag_does(store: Store) -> None:
    truncate(Path(store.uri, "tags/v1.json"))
    for use in (lambda: find_tag(store, "v1"), lambda: collect(store, Retention())):
        with pytest.raises(StoreError, match="curation tag v1 --delete"):
            use()
    delete_tag(store, "v1")
    (record,) = read_runs(store)
    tag_run(store, "v1", record.run, Waiting())
    assert [tag.run for tag in read_tags(store)] == [record.run]
    assert verify_store(store) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_gc_removes_what_was_set_aside_and_what_killed_writers_left(
    store: Store, dry_run: bool
) -> None:
    store.storage.delete(store.storage.files("tombstones", recursive=True))
    (record,) = read_runs(store)
    with recorded_run(store, "recipe", "f") as broken:
        pass
    publish(store, "hand", open_table(store, "pairs").manifest)
    damaged = [store.set_aside(broken.record.path)]
    mark = next(p for p in store.storage.files(OPEN, recursive=True) if p.endswith("hint.text"))
    damaged.append(store.set_aside(mark))
    left = [
        f"{folder}/.a.{DIGEST}.tmp" for folder in ("open/x/y", "tombstones", "logs", "tags", "runs")
    ]
    for path in left:
        full = Path(store.uri, path)
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(b"half")
        subprocess.run(["touch", "-d", "2 days ago", str(full)], check=True)
    collected = collect(store, Retention(grace_s=0.0), dry_run)
    assert set(collected.kept) == {record.run}
    remaining = [p for p in [*damaged, *left] if Path(store.uri, p).exists()]
    assert remaining == ([*damaged, *left] if dry_run else [])
