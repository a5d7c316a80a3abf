"""What gc removes and keeps, with real runs of a tiny recipe."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.engine.context import Context
from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import CurationError, LeaseError, StoreError
from curation.inspect.diff import difference
from curation.inspect.lineage import trace
from curation.inspect.report.build import write_report
from curation.runner.gc.kept_runs import Retention
from curation.runner.gc.restore import read_manifests
from curation.stages.verify import measured_pairs
from curation.stages.verify.compare import Agreement
from curation.stages.verify.compare import compare as compare_pictures
from curation.store.holder import Holder
from curation.store.run_log import Recompute, read_runs, recorded_run
from curation.store.run_record import RunRecord
from curation.store.step_log import Entry, Lease, StepLog
from curation.store.storage.local import LocalStorage
from curation.store.store import Store
from curation.store.tags import add_tag, delete_tag
from curation.store.verification import verify_store

from .. import runs
from ..e2e.small import encoded, picture
from ..fetch.conftest import Web, answer
from ..ingest.helpers import jpeg, source, write
from ..workers import StopsBefore
from .conftest import TwoRuns
from .helpers import (
    NOW,
    build_tiny,
    contents,
    copied,
    digest_of,
    edited,
    files_of,
    gc,
    recipe_of,
    run_recipe,
    runs_of,
    sum_of,
)

DAY = 24 * 3600.0


def make_older(store: Path, seconds: float) -> None:
    """Let all files of a store be changed so many seconds earlier."""
    for path in (p for p in store.rglob("*") if p.is_file()):
        status = path.stat()
        os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))


def test_the_latest_run_stays_whole_and_the_other_one_goes(two_runs: TwoRuns) -> None:
    store = Store(two_runs.store)
    rows, before = contents(store, two_runs.second), files_of(two_runs.store)
    collected = gc(store)
    after = files_of(two_runs.store)
    assert collected.kept == {two_runs.second.run: "latest"}
    assert collected.removed == (two_runs.first.run,)
    assert runs_of(two_runs.store) == [two_runs.second.run]
    assert contents(store, two_runs.second) == rows
    recipe = recipe_of(two_runs.second_recipe)
    lineage = trace(recipe, store)
    assert {
        t: lineage[t].manifest.version for t in two_runs.second.tables
    } == two_runs.second.tables
    assert write_report(recipe, store) in after
    for table in ("claims", "dataset"):
        assert store.versions(table) == [two_runs.second.tables[table]]
    assert [p.name for p in (two_runs.store / "dataset").iterdir()] == store.versions("dataset")
    assert [p.name for p in (two_runs.store / "reports").iterdir()] == store.versions("dataset")
    counted = sum_of(collected.tallies)
    assert (counted.kept_files, counted.kept_bytes) == (len(after), sum(after.values()))
    assert counted.removed_files == len(before) - len(after) > 50
    assert counted.removed_bytes == sum(before.values()) - sum(after.values())


def test_what_stays_is_up_to_date_and_nothing_is_left_for_a_second_gc(two_runs: TwoRuns) -> None:
    gc(two_runs.store)
    assert sum_of(gc(two_runs.store).tallies).removed_files == 0
    before = files_of(two_runs.store)
    _, results = run_recipe(two_runs.second_recipe, two_runs.store)
    assert {name: r.computed for name, r in results.items()} == dict.fromkeys(results, 0)
    # Not even a work table was computed. The record of the run is new; the store was copied, so the
    # folders by which other programs open its tables name the new address.
    new = set(files_of(two_runs.store)) - set(before)
    assert len([path for path in new if not path.startswith("open/")]) == 1


def test_the_next_change_compares_only_new_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[None] = []

    def counted(*pictures: Any) -> Agreement:
        compared.append(None)
        return compare_pictures(*pictures)

    monkeypatch.setattr(measured_pairs, "compare", counted)
    spec, store = build_tiny(tmp_path / "web"), tmp_path / "store"
    run_recipe(spec, store, until="verify")
    pairs = len(compared)
    assert pairs
    gc(store)
    new = encoded(picture(0, np.random.default_rng(9), side=80))
    row = {"key": "new", "image": new, "caption": "one more"}
    write(tmp_path / "web" / "pool" / "b.parquet", [row])
    record, _ = run_recipe(spec, store, until="verify")
    rows = open_table(Store(store), "verified", record.tables["verified"]).rows
    assert 0 < len(compared) - pairs == rows - pairs


def test_a_dataset_can_be_compared_after_the_tables_of_its_first_run_went(tmp_path: Path) -> None:
    """The same dataset was made again, from a list with one more row that is dropped."""
    spec, store = build_tiny(tmp_path / "web"), tmp_path / "store"
    first, _ = run_recipe(spec, store)
    broken = {"key": "broken", "image": b"no picture", "caption": "none"}
    write(tmp_path / "web" / "pool" / "b.parquet", [broken])
    second, _ = run_recipe(spec, store)
    assert first.tables["dataset"] == second.tables["dataset"]
    assert first.tables["eligible"] != second.tables["eligible"]
    other, _ = run_recipe(edited(spec, retrieve=[spec["retrieve"][0] | {"k": 1}]), store)
    opened = Store(store)
    expected = compare(opened, second, other)
    assert any(expected)
    gc(store, Retention(keep=2, grace_s=0.0))
    assert first.tables["eligible"] not in opened.versions("eligible")
    assert compare(opened, second, other) == expected


def compare(store: Store, before: RunRecord, after: RunRecord) -> list[Any]:
    """What differs between the datasets of two runs, in both directions."""
    tables = [open_table(store, "dataset", run.tables["dataset"]) for run in (before, after)]
    pairs = (tables, tables[::-1])
    return [row for pair in pairs for batch in difference(*pair) for row in batch.to_pylist()]


def test_a_removed_run_can_be_run_again(two_runs: TwoRuns) -> None:
    rows = contents(two_runs.store, two_runs.first)
    gc(two_runs.store)
    record, results = run_recipe(two_runs.first_recipe, two_runs.store)
    assert contents(two_runs.store, record) == rows
    assert results["embed"].up_to_date
    assert not results["retrieve"].up_to_date


def test_a_dry_run_says_what_would_be_removed_and_writes_nothing(two_runs: TwoRuns) -> None:
    before = digest_of(two_runs.store)
    wanted = gc(two_runs.store, dry_run=True)
    assert digest_of(two_runs.store) == before
    assert not (two_runs.store / "steps" / "gc").exists()
    assert gc(two_runs.store) == wanted


def test_a_replaced_run_stays_for_the_grace_period(two_runs: TwoRuns) -> None:
    assert gc(two_runs.store, Retention(grace_s=DAY)).removed == ()
    make_older(two_runs.store, 2 * DAY)
    run_recipe(two_runs.second_recipe, two_runs.store)
    # Both old runs were replaced more than a day ago, or now: that which was the latest stays.
    collected = gc(two_runs.store, Retention(grace_s=DAY))
    assert collected.removed == (two_runs.first.run,)
    assert collected.kept[two_runs.second.run] == "grace period"
    assert contents(two_runs.store, two_runs.second)


def test_files_that_nothing_names_stay_for_the_grace_period(two_runs: TwoRuns) -> None:
    new = two_runs.store / "tables" / "images" / "data" / "new.0123456789ab.parquet"
    new.write_bytes(b"unfinished")
    gc(two_runs.store, Retention(grace_s=DAY))
    assert new.exists()
    gc(two_runs.store)
    assert not new.exists()


def test_several_latest_runs_can_be_kept(two_runs: TwoRuns) -> None:
    rows = contents(two_runs.store, two_runs.first)
    assert gc(two_runs.store, Retention(keep=2, grace_s=0.0)).removed == ()
    assert contents(two_runs.store, two_runs.first) == rows
    for recipe in (two_runs.first_recipe, two_runs.second_recipe):
        assert trace(recipe_of(recipe), Store(two_runs.store))


def test_a_part_of_the_recipe_that_ran_later_keeps_the_run_of_the_whole(two_runs: TwoRuns) -> None:
    run_recipe(two_runs.second_recipe, two_runs.store, until="screen")
    gc(two_runs.store)
    assert contents(two_runs.store, two_runs.second)
    assert len(runs_of(two_runs.store)) == 2


class FailsAfter(LocalStorage):
    """A disk on which the process is stopped after some deletions."""

    def __init__(self, root: Path, deletions: int) -> None:
        super().__init__(root)
        self.left = deletions

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            if not path.startswith("steps/gc/"):
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left -= 1
            super().delete([path])


def test_a_gc_that_is_stopped_anywhere_leaves_whole_runs_and_a_second_one_ends_it(
    base: TwoRuns, tmp_path: Path
) -> None:
    reference = copied(base.store, tmp_path / "reference")
    removed = sum_of(gc(reference).tallies).removed_files
    expected = digest_of(reference)
    for deletions in range(0, removed, max(removed // 12, 1)):
        store = copied(base.store, tmp_path / str(deletions))
        with pytest.raises(KeyboardInterrupt):
            gc(Store(store, FailsAfter(store, deletions)))
        assert expected.items() <= digest_of(store).items()
        for record in read_runs(Store(store)):
            read_manifests(Store(store), record)
        gc(store)
        assert digest_of(store) == expected


@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_nothing_of_a_table_goes_while_nobody_knows_what_a_kept_version_needs(
    two_runs: TwoRuns, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(two_runs.store)
    version = two_runs.second.tables["claims"]
    manifest = two_runs.store / "tables" / "claims" / "versions" / f"{version}.parquet"
    if damage == "lost":
        manifest.unlink()
    else:
        manifest.write_bytes(b"PAR1 is not enough")
    before = set(store.storage.files("tables/claims/data"))
    gc(store)
    assert set(store.storage.files("tables/claims/data")) == before
    assert "Nothing of table claims is removed" in caplog.text
    run_recipe(two_runs.second_recipe, store)
    gc(store)
    assert len(store.storage.files("tables/claims/data")) == len(before) // 2
    assert contents(store, two_runs.second)


def test_nothing_goes_if_the_record_of_a_run_cannot_be_read(two_runs: TwoRuns) -> None:
    (two_runs.store / two_runs.second.path).write_bytes(b"{")
    before = digest_of(two_runs.store)
    with pytest.raises(StoreError, match=r"1 records of runs .* are damaged.*Nothing was removed"):
        gc(two_runs.store)
    assert digest_of(two_runs.store) == before


class Full(LocalStorage):
    """A disk that is full when a manifest of a table is written."""

    def __init__(self, root: Path, table: str) -> None:
        super().__init__(root)
        self.table = table

    def create(self, path: str, content: bytes) -> bool:
        if path.startswith(f"tables/{self.table}/versions"):
            raise OSError("No space left on device")
        return super().create(path, content)


def test_what_a_failed_run_has_finished_stays_until_the_recipe_finishes(two_runs: TwoRuns) -> None:
    changed = edited(two_runs.first_recipe, select={"min_side": {"at_least": 70}})
    with pytest.raises(OSError, match="No space"):
        run_recipe(changed, Store(two_runs.store, Full(two_runs.store, "eligible")))
    (failed,) = (r for r in read_runs(Store(two_runs.store)) if r.state == "failed")
    collected = gc(two_runs.store)
    assert collected.kept == {failed.run: "unfinished", two_runs.second.run: "latest"}
    record, results = run_recipe(changed, two_runs.store)
    assert results["select"].computed == 0
    assert results["select"].reused > 1
    gc(two_runs.store)
    assert runs_of(two_runs.store) == [record.run]


def test_leftovers_of_processes_that_ended_early_go_after_an_hour(two_runs: TwoRuns) -> None:
    data = two_runs.store / "tables" / "images" / "data"
    unique = "0123456789abcdef" * 2
    old = [
        two_runs.store / f"probe-{unique}",
        two_runs.store / f".probe-{unique}.{unique}.tmp",
        data / f".x.0123456789ab.parquet.{unique}.tmp",
        data / "x.0123456789ab.parquet.damaged",
        two_runs.store / "runs" / f".r.json.{unique}.tmp",
    ]
    young = [
        two_runs.store / f"probe-{unique[::-1]}",
        data / f".y.0123456789ab.parquet.{unique}.tmp",
    ]
    foreign = two_runs.store / "notes.tmp"
    for path in [*old, *young, foreign]:
        path.write_bytes(b"x")
    for path in [*old, foreign]:
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    gc(two_runs.store)
    assert [path for path in [*old, *young, foreign] if path.exists()] == [*young, foreign]


def test_a_state_that_all_steps_share_stays(tmp_path: Path) -> None:
    """Ingest keeps in it which lists are grouped together, so later runs depend on it."""
    with recorded_run(Store(tmp_path), "recipe", "f"):
        pass
    context = Context(Store(tmp_path), InProcess(), "ingest", "salt", step="s")
    batch = pa.RecordBatch.from_pydict({"n": [1, 2]})
    context.save_state("groups", "all", batch, shared=True)
    context.save_state("state", "key", batch)
    gc(tmp_path)
    later = Context(Store(tmp_path), InProcess(), "ingest", "salt", step="other")
    saved = later.load_state("groups", "all", shared=True)
    assert saved is not None
    assert saved.read() == pa.Table.from_batches([batch])
    assert context.load_state("state", "key") is None


def test_a_holder_that_was_silent_for_an_hour_cannot_commit_after_gc(two_runs: TwoRuns) -> None:
    step = two_runs.first.steps["claims"]
    log = StepLog(Store(two_runs.store), step)
    elsewhere = Holder("elsewhere", 1, "boot", 1, "lost")
    last = log.latest()
    entry = Entry(last.number + 1, "lease", elsewhere, last.tables, {}, "retrieve")
    log.add(entry)
    assert gc(two_runs.store).tallies["claims"].removed_files == 0
    path = two_runs.store / log.path(entry.number)
    os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert gc(two_runs.store).tallies["claims"].removed_files > 0
    with pytest.raises(LeaseError, match="took over"):
        Lease(log, entry).commit(last.tables)


def test_pictures_that_are_no_longer_listed_leave_the_disk(web: Web, tmp_path: Path) -> None:
    lists, store = tmp_path / "list.parquet", tmp_path / "store"
    for n in (1, 2):
        web.pages[f"/{n}"] = answer(jpeg(n))
    spec = {
        "name": "listed",
        "sources": [source(lists)],
        "fetch": {"allow_hosts": ["127.0.0.0/8"], "robots": False},
    }
    for listed in ((1, 2), (2,)):
        write(lists, [{"url": web.url(f"/{n}"), "caption": str(n)} for n in listed])
        run_recipe(spec, store, until="screen")
    assert pictures(store) == {"1", "2"}
    current = open_table(Store(store), "images").read(["caption", "status"]).to_pylist()
    gc(store)
    assert pictures(store) == {"2"}
    assert open_table(Store(store), "images").read(["caption", "status"]).to_pylist() == current
    _, results = run_recipe(spec, store, until="screen")
    assert all(result.up_to_date for result in results.values())


def pictures(store: Path) -> set[str]:
    """The captions of the pictures that are anywhere below a folder."""
    captions = set()
    for path in store.rglob("*.parquet"):
        file = pq.ParquetFile(path)
        if {"image", "caption"} <= set(file.schema_arrow.names):
            rows = file.read(["image", "caption"]).to_pylist()
            captions |= {row["caption"] for row in rows if row["image"]}
    return captions


def test_the_default_keeps_everything_for_a_day(two_runs: TwoRuns) -> None:
    assert Retention() == Retention(keep=1, older_than_s=None, grace_s=DAY)
    assert NOW.keep == 1


def test_what_a_recipe_has_no_more_goes_though_programs_could_open_it(two_runs: TwoRuns) -> None:
    """An encoder was tried and taken out of the recipe again."""
    spec, store = two_runs.second_recipe, Store(two_runs.store)
    embed, cluster = spec["embed"], spec["cluster"] | {"encoder": "semantic"}
    both = embed | {"encoders": embed["encoders"] | {"copy": {"model": "copy_micro"}}}
    tried, _ = run_recipe(edited(spec, embed=both, cluster=cluster), store)
    latest, _ = run_recipe(spec, store)
    assert "embeddings.copy" in tried.tables.keys() - latest.tables.keys()
    add_tag(store, "tried", tried.run)
    gc(store)
    assert store.versions("embeddings.copy") == [tried.tables["embeddings.copy"]]
    assert "embeddings.copy" in store.storage.folders("open/tiny")
    delete_tag(store, "tried")
    assert gc(store).kept == {latest.run: "latest"}
    assert not [path for path in files_of(two_runs.store) if "embeddings.copy" in path]
    assert set(store.storage.folders("open/tiny")) == set(latest.tables)


def test_a_record_of_a_kept_fragment_goes_with_the_other_rows_that_it_names(
    two_runs: TwoRuns,
) -> None:
    """Rows that were asked for again were others, and an earlier run was restored."""
    store = Store(two_runs.store)
    record = open_table(store, "scores").manifest.fragments[0]
    other = replace(record.files[0], path=f"tables/scores/data/{record.name}.{12 * '0'}.parquet")
    store.storage.copy(record.files[0].path, other.path)
    store.replace_record(replace(record, files=(other,)))
    gc(store, Retention())
    assert not verify_store(store)
    gc(store)
    assert not verify_store(store)
    assert other.path not in files_of(two_runs.store)


@pytest.mark.parametrize("ends", [True, False])
def test_no_record_names_a_file_that_went_after_everything_was_computed_again(
    two_runs: TwoRuns, ends: bool
) -> None:
    """The same rows are the same versions, whose manifests keep their files."""
    spec, store = two_runs.second_recipe, Store(two_runs.store)
    with suppress(CurationError):
        runs.run_recipe(
            spec,
            store,
            StopsBefore(None if ends else "screen"),
            until="screen",
            recompute=Recompute(force=True),
        )
    assert not verify_store(store)
    gc(store)
    assert not verify_store(store)
    _, results = run_recipe(spec, store)
    assert all(result.up_to_date for result in results.values())
    gc(store)
    assert not verify_store(store)
    data = {path for path in files_of(two_runs.store) if path.startswith("tables/pairs/data/")}
    assert data == {file.path for file in open_table(store, "pairs").manifest.files}
