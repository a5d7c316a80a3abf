"""gc beside runs that go on: in the middle of every stage, before a lease, and while gc deletes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from curation.errors import LeaseError, StoreError
from curation.flow import STAGES
from curation.runner.gc.restore import read_manifests, tag_run
from curation.store.run_log import read_runs
from curation.store.run_record import RunRecord
from curation.store.step_log import Waiting
from curation.store.storage.local import LocalStorage
from curation.store.store import Store
from curation.store.tags import read_tags

from .conftest import TwoRuns
from .helpers import contents, copied, edited, gc, run_recipe


class Watched(LocalStorage):
    """A disk that tells of every file before it is written or deleted."""

    def __init__(self, root: Path, before: Callable[[str, str], None]) -> None:
        super().__init__(root)
        self.before = before

    def write(self, path: str, content: bytes) -> None:
        self.before("write", path)
        super().write(path, content)

    def create(self, path: str, content: bytes) -> bool:
        self.before("create", path)
        return super().create(path, content)

    def open_output(self, path: str) -> Any:
        self.before("open", path)
        return super().open_output(path)

    def delete(self, paths: Iterable[str]) -> None:
        wanted = list(paths)
        for path in wanted:
            self.before("delete", path)
        super().delete(wanted)


def test_gc_before_every_file_that_a_run_writes_changes_nothing(
    base: TwoRuns, tmp_path: Path
) -> None:
    """The run is the first one again, whose fragments no kept run names any more."""
    alone, beside = (copied(base.store, tmp_path / name) for name in ("alone", "beside"))
    recipe = edited(base.first_recipe, select={"min_side": {"at_least": 70}})
    expected = contents(alone, run_recipe(recipe, alone)[0])
    stages, busy = set(), False

    def remove(action: str, path: str) -> None:
        nonlocal busy
        if not busy and not path.endswith(".beat"):
            busy = True
            gc(beside)
            busy = False
            stages.add(path.split("/")[1] if path.startswith("tables") else path.split("/", 1)[0])

    record, _ = run_recipe(recipe, Store(beside, Watched(beside, remove)))
    assert contents(beside, record) == expected
    read_manifests(Store(beside), record)
    assert stages >= {"runs", "steps", "eligible", "claims", "matches", "dataset"}
    gc(beside)
    assert contents(beside, record) == expected
    _, results = run_recipe(recipe, beside)
    assert all(result.up_to_date for result in results.values())


def test_gc_in_the_middle_of_every_stage_of_a_new_store_changes_nothing(
    base: TwoRuns, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    seen: set[str] = set()

    def remove(action: str, path: str) -> None:
        part = "/".join(path.split("/")[:3])
        if path.startswith("tables/") and part not in seen:
            seen.add(part)
            gc(store)

    record, results = run_recipe(base.first_recipe, Store(store, Watched(store, remove)))
    for kind in ("data", "versions"):
        assert {f"tables/{t}/{kind}" for t in record.tables} <= seen
    assert contents(store, record) == contents(base.store, base.first)
    assert len(results) == len(STAGES)


class Thread(threading.Thread):
    """A thread whose result or error the test gets."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.error: BaseException | None = None
        self.result: object = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error

    def value(self) -> Any:
        self.join(120)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.result


class PausedGc:
    """A gc that waits before a deletion until it is let go."""

    def __init__(self, store: Path, folder: str) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

        def pause(action: str, path: str) -> None:
            if action == "delete" and path.startswith(folder):
                self.reached.set()
                assert self.go_on.wait(60)

        self.thread = Thread(lambda: gc(Store(store, Watched(store, pause))))
        assert self.reached.wait(60)


@pytest.mark.parametrize("folder", ["runs/", "tables/claims/", "dataset/", "work/", "steps/"])
def test_a_run_that_starts_while_gc_removes_its_tables_waits_and_ends_well(
    base: TwoRuns, two_runs: TwoRuns, folder: str
) -> None:
    paused = PausedGc(two_runs.store, folder)
    with pytest.raises(LeaseError, match="'gc' is being worked on by run gc-"):
        run_recipe(base.first_recipe, two_runs.store, waiting=Waiting(wait=False))
    notices: list[str] = []

    def tell(text: str) -> None:
        notices.append(text)
        paused.go_on.set()

    record, results = run_recipe(base.first_recipe, two_runs.store, waiting=Waiting(notify=tell))
    paused.thread.value()
    assert len(notices) == 1
    assert contents(two_runs.store, record) == contents(base.store, base.first)
    assert not results["retrieve"].up_to_date


def test_a_run_that_gets_a_lease_while_gc_removes_what_it_would_reuse_looks_again(
    base: TwoRuns, two_runs: TwoRuns
) -> None:
    """The record of the run does not say which steps it plans, so gc keeps nothing for it."""
    gcs: list[PausedGc] = []
    step = {stage: step for step, stage in base.first.planned.items()}["match"]
    forget_commits(two_runs.store, step)

    def start_gc(action: str, path: str) -> None:
        if action == "create" and path.startswith(f"steps/{step}/") and not gcs:
            gcs.append(PausedGc(two_runs.store, "tables/matches/data"))

    store = Store(two_runs.store, Watched(two_runs.store, start_gc))
    waiting = Waiting(notify=lambda text: gcs[0].go_on.set())
    record, results = run_recipe(base.first_recipe, store, waiting=waiting, is_planned=False)
    assert two_runs.first.run in gcs[0].thread.value().removed
    assert not results["match"].up_to_date
    assert contents(two_runs.store, record) == contents(base.store, base.first)
    read_manifests(Store(two_runs.store), record)


def forget_commits(store: Path, step: str) -> None:
    """Remove the log of a step, so that it must look for what is finished under its lease."""
    for path in (store / "steps" / step).iterdir():
        path.unlink()


def test_a_tag_on_a_run_that_gc_is_removing_is_refused(two_runs: TwoRuns) -> None:
    """gc had looked at the tags before: the record of the run goes next."""
    store = Store(two_runs.store)
    paused = PausedGc(two_runs.store, "runs/")
    waiting = Waiting(notify=lambda text: paused.go_on.set())
    with pytest.raises(StoreError, match=r"no run in .* has the tag"):
        tag_run(store, "mine", two_runs.first.run, waiting)
    assert paused.thread.value().removed == (two_runs.first.run,)
    assert read_tags(store) == []


def test_two_gcs_exclude_each_other(two_runs: TwoRuns) -> None:
    paused = PausedGc(two_runs.store, "tables/")
    with pytest.raises(LeaseError, match="--no-wait"):
        gc(two_runs.store, waiting=Waiting(wait=False))
    waiting = Thread(
        lambda: gc(two_runs.store, waiting=Waiting(notify=lambda text: paused.go_on.set()))
    )
    assert waiting.value().removed == ()
    assert paused.thread.value().removed == (two_runs.first.run,)


def test_the_record_of_a_run_that_goes_on_keeps_its_tables(two_runs: TwoRuns) -> None:
    """Its steps are those of a run that was replaced: without the record, gc would remove them."""
    records: list[RunRecord] = []

    def remove(action: str, path: str) -> None:
        if path.startswith("runs/") and len(records) == 0:
            records.extend(read_runs(Store(two_runs.store)))
            if any(record.current_state == "running" for record in records):
                gc(two_runs.store)
            else:
                records.clear()

    store = Store(two_runs.store, Watched(two_runs.store, remove))
    _, results = run_recipe(two_runs.first_recipe, store)
    assert records
    assert all(result.up_to_date for result in results.values())
