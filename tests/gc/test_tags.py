"""Tags keep runs, and restoring a run makes its tables the latest again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.table import open_table
from curation.errors import RecipeError, StoreError
from curation.runner.gc.restore import restore_run, tag_run
from curation.store.holder import Holder
from curation.store.run_log import find_run, recorded_run
from curation.store.run_record import RunRecord
from curation.store.step_log import Entry, StepLog, Waiting
from curation.store.store import Store
from curation.store.tags import add_tag, delete_tag, read_tags

from ..damage.finished import SkippingClock
from .conftest import TwoRuns
from .helpers import build_tiny, contents, gc, run_recipe, runs_of


def command(*arguments: str | Path) -> str:
    """What a command prints."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def restore(store: Path, name: str) -> RunRecord:
    """Restore a run."""
    opened = Store(store)
    return restore_run(opened, find_run(opened, name), Waiting())


def test_a_tagged_run_stays_until_the_tag_is_deleted(two_runs: TwoRuns) -> None:
    store = Store(two_runs.store)
    rows = contents(store, two_runs.first)
    tag_run(store, "paper-1", two_runs.first.run[:22], Waiting())
    assert gc(store).kept[two_runs.first.run] == "tagged"
    assert contents(store, two_runs.first) == rows
    delete_tag(store, "paper-1")
    assert gc(store).removed == (two_runs.first.run,)


def test_a_name_belongs_to_one_run(two_runs: TwoRuns) -> None:
    store = Store(two_runs.store)
    tag = tag_run(store, "v", None, Waiting())
    assert tag.run == two_runs.second.run
    assert tag_run(store, "v", two_runs.second.run, Waiting()) == tag
    with pytest.raises(StoreError, match=r"'v' in .* is in use: it names .*--delete"):
        tag_run(store, "v", two_runs.first.run, Waiting())
    assert read_tags(store) == [tag]
    with pytest.raises(StoreError, match=r"no run in .* has the tag 'w' or .*Valid: v, 20"):
        find_run(store, "w")
    with pytest.raises(StoreError, match=r"unknown tag 'b'. Valid: v"):
        delete_tag(store, "b")
    with pytest.raises(StoreError, match="unknown tag"):
        delete_tag(store, f"../runs/{two_runs.first.run}")
    assert len(runs_of(two_runs.store)) == 2


@pytest.mark.parametrize("name", ["", "A", "../x", ".x", "a b", "a/b", "x" * 101, "ä", "a.tmp"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="is no name for a tag"):
        add_tag(Store(tmp_path), name, "run")


@pytest.mark.parametrize("name", ["2026", "20261201", "1f3a", "face", "0" * 100])
def test_a_tag_that_would_hide_a_run_or_a_version_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="run or of a version may begin so") as caught:
        add_tag(Store(tmp_path), name, "run")
    fix = re.search(r"'(v-.*)'", caught.value.details[0].fix or "")
    assert fix is not None and add_tag(Store(tmp_path), fix[1], "run").name == fix[1]


def test_a_damaged_tag_stops_gc(two_runs: TwoRuns) -> None:
    Store(two_runs.store).storage.write("tags/a.json", b"{")
    with pytest.raises(StoreError, match=r"tags/a\.json is damaged"):
        gc(two_runs.store)
    assert len(runs_of(two_runs.store)) == 2


def test_a_restored_run_is_the_latest_and_nothing_is_computed(two_runs: TwoRuns) -> None:
    store = Store(two_runs.store)
    record = restore(two_runs.store, two_runs.first.run)
    assert record.restored_from == two_runs.first.run
    assert open_table(store, "dataset").manifest.version == two_runs.first.tables["dataset"]
    assert gc(store).removed == (two_runs.second.run, two_runs.first.run)
    assert contents(store, record)
    _, results = run_recipe(two_runs.first_recipe, store)
    assert all(result.up_to_date for result in results.values())


@pytest.mark.parametrize("is_pruned", [False, True])
def test_restoring_undoes_a_change_of_the_sources_until_the_next_run(
    tmp_path: Path, is_pruned: bool
) -> None:
    """Both runs have the same steps, so their logs are moved back; a run follows the sources."""
    spec, store = build_tiny(tmp_path / "web"), tmp_path / "store"
    pool = tmp_path / "web" / "pool" / "a.parquet"
    rows = pq.read_table(pool)
    first, _ = run_recipe(spec, store, until="screen")
    old = contents(store, first)
    pq.write_table(rows.slice(0, 5), pool)
    second, _ = run_recipe(spec, store, until="screen")
    new = contents(store, second)
    tag_run(Store(store), "before", first.run, Waiting())
    if is_pruned:
        for path in (store / "steps").rglob("*.json"):
            if path.name < "00000004.json":
                path.unlink()
    record = restore(store, "before")
    gc(store)
    assert contents(store, record) == old
    assert open_table(Store(store), "scores").manifest.version == first.tables["scores"]
    again, results = run_recipe(spec, store, until="screen")
    assert contents(store, again) == new
    assert not all(result.up_to_date for result in results.values())
    restore(store, "before")
    pq.write_table(rows, pool)
    same, results = run_recipe(spec, store, until="screen")
    assert contents(store, same) == old
    assert results["screen"].up_to_date


class BusyClock(SkippingClock):
    """A clock on which what is to be repeated happens whenever somebody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], None]] = []

    def repeat(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        """Note the call."""
        self.calls.append(call)
        return lambda: self.calls.remove(call)

    def sleep(self, seconds: float) -> None:
        """Let time pass, and do what is to be repeated."""
        super().sleep(seconds)
        for call in self.calls:
            call()


def test_a_restoration_that_waits_for_another_run_shows_that_it_lives(two_runs: TwoRuns) -> None:
    """Otherwise status calls it silent after a minute, and gc takes it for dead after an hour."""
    store, clock, written = Store(two_runs.store), BusyClock(), set[int]()

    def note() -> None:
        written.update(
            p.stat().st_mtime_ns for p in (two_runs.store / "runs").glob("*.running.json")
        )

    clock.calls.append(note)
    log = StepLog(store, two_runs.first.steps["dataset"])
    other = Holder("elsewhere", 1, "another boot", 1, "another run")
    number = log.latest().number + 1
    assert log.add(Entry(number, "lease", other, stage="assemble"))
    restored = restore_run(store, two_runs.first, Waiting(notify=lambda text: None, clock=clock))
    assert restored.state == "finished"
    assert restored.updated
    assert len(written) > 2


def test_a_run_that_lost_a_file_is_not_restored(two_runs: TwoRuns) -> None:
    manifest = open_table(Store(two_runs.store), "claims", two_runs.first.tables["claims"]).manifest
    (two_runs.store / manifest.fragments[0].files[0].path).unlink()
    with pytest.raises(
        StoreError, match=r"is not whole: .* missing of claims \(version .*as it was then"
    ):
        restore(two_runs.store, two_runs.first.run)
    assert runs_of(two_runs.store) == [two_runs.second.run, two_runs.first.run]
    assert (
        open_table(Store(two_runs.store), "dataset").manifest.version
        == (two_runs.second.tables["dataset"])
    )
    with pytest.raises(StoreError, match="is not whole"):
        tag_run(Store(two_runs.store), "v1", two_runs.first.run, Waiting())
    assert read_tags(Store(two_runs.store)) == []


def test_a_run_that_failed_is_not_restored(two_runs: TwoRuns) -> None:
    with pytest.raises(KeyError), recorded_run(Store(two_runs.store), "tiny", "0") as run:
        raise KeyError
    with pytest.raises(StoreError, match=r"has not finished \(failed\)"):
        restore(two_runs.store, run.record.run)


def test_tagged_runs_outlive_gc_and_can_be_restored(two_runs: TwoRuns) -> None:
    place = ("--store", two_runs.store)
    assert "No tag yet" in command("tag", *place)
    assert two_runs.first.run in command("tag", "old", "--run", two_runs.first.run, *place)
    assert json.loads(command("tag", *place, "--json"))[0]["name"] == "old"
    spec = json.loads(command("gc", *place, "--grace", "0s", "--dry-run", "--json"))
    assert spec["kept"][two_runs.first.run] == "tagged"
    assert "Deleted the tag old" in command("tag", "old", "--delete", *place)
    printed = command("gc", *place, "--grace", "0s", "--dry-run")
    assert "would be removed" in printed
    assert f"would go  {two_runs.first.run}" in printed
    assert two_runs.first.run in command("restore", two_runs.first.run, *place)
    printed = command("gc", *place, "--grace", "0s", "--keep", "1")
    assert f"removed  {two_runs.second.run}" in printed
    assert command("gc", *place, "--older-than", "30d")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gc", "--keep", "2", "--older-than", "3d"), "not both"),
        (("gc", "--grace", "3"), r"--grace: '3' is no length of time.* 24h"),
        (("gc", "--older-than", "-1d"), r"--older-than: '-1d' is no length"),
        (("tag", "--delete"), "Name the tag"),
        (("tag", "--run", "x"), "Name the tag"),
        (("tag", "v1", "--run", "x", "--delete"), "--run: it has no effect beside --delete"),
        (("gc", "--older-than", "1000000d"), "--older-than: .* is too long. Write at most 36500d"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        command(*arguments, "--store", tmp_path)


def test_a_changed_letter_of_a_tag_is_not_believed(tmp_path: Path) -> None:
    """Otherwise gc would take the run for one that nobody tagged."""
    store = Store(tmp_path)
    add_tag(store, "v1", "20260101T000000Z-aaaaaa")
    content = store.storage.read("tags/v1.json") or b""
    store.storage.write("tags/v1.json", content.replace(b"aaaaaa", b"baaaaa"))
    with pytest.raises(StoreError, match="damaged"):
        read_tags(store)
