"""What `curation status` shows of runs that work, wait, were killed, fell silent or ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from curation.activity import Activity, WorkCounts
from curation.cli import app
from curation.cli.status_command import failures
from curation.errors import StoreError
from curation.inspect.status import RunStatus, read_status
from curation.store.clock import Clock, SystemClock
from curation.store.holder import this_process
from curation.store.run_log import Run, StageSummary, recorded_run, refreshed
from curation.store.run_record import RunRecord
from curation.store.step_log import StepLog, Waiting, hold
from curation.store.storage.base import FileStatus
from curation.store.storage.local import LocalStorage
from curation.store.store import Store
from tests.store.processes import runner

STEP = "f" * 64
PLANNED = {"e" * 64: "ingest", STEP: "fetch", "d" * 64: "screen"}


class Counting(LocalStorage):
    """A folder that counts requests, and may be read-only."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.requests = 0
        self.is_read_only = False

    def read(self, path: str) -> bytes | None:
        """See `Storage.read`."""
        self.requests += 1
        return super().read(path)

    def files(self, folder: str, recursive: bool = False) -> dict[str, FileStatus]:
        """See `Storage.files`."""
        self.requests += 1
        return super().files(folder, recursive)

    def write(self, path: str, content: bytes) -> None:
        """See `Storage.write`."""
        if self.is_read_only:
            raise PermissionError(path)
        self.requests += 1
        super().write(path, content)

    def create(self, path: str, content: bytes) -> bool:
        """See `Storage.create`."""
        if self.is_read_only:
            raise PermissionError(path)
        return super().create(path, content)


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "store")


@pytest.fixture
def store(storage: Counting) -> Store:
    return Store(storage.uri, storage)


@contextmanager
def working(store: Store) -> Iterator[Run]:
    """A run that fetches, and holds the lease."""
    with recorded_run(store, "birds", "fp", PLANNED) as run:
        run.add("ingest", StageSummary(100, {"ok": 98, "bad_row": 2}, 1.5), {}, "e" * 64)
        run.activity.begin_stage("fetch", STEP)
        with hold(StepLog(store, STEP), run.holder, "fetch", {}, Waiting()):
            run.activity.begin_part("fetch", 4)
            outcomes = {"ok": 30, "timeout": 8, "http_404": 2}
            run.activity.set_counts(WorkCounts(40, 98, "rows", outcomes, 10**6))
            run.refresh()
            yield run


def printed(store: Store, *more: str) -> str:
    result = CliRunner().invoke(app, ["status", "--store", store.uri, *more])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_run_that_works_is_shown_with_its_progress_and_its_lease(store: Store) -> None:
    assert read_status(store) == []
    with working(store) as run:
        (status,) = read_status(store)
        assert status.state == "running"
        assert status.waiting_stages == ["screen"]
        assert status.lease is not None and status.lease.run == run.record.run
        spec = json.loads(printed(store, "--json"))[0]
        assert spec["progress"]["counts"] == {
            **{"done": 40, "total": 98, "unit": "rows", "bytes": 10**6},
            "outcomes": {"ok": 30, "timeout": 8, "http_404": 2},
        }
        assert spec["progress"]["per_second"] > 0 and spec["progress"]["seconds_left"] >= 0
        assert spec["outcomes"]["ingest"] == {"ok": 98, "bad_row": 2}
        assert spec["lease"]["since"] <= datetime.now(UTC).isoformat()
        text = printed(store)
    for words in (
        "of birds: running, ",
        "40 of 98 rows · ",
        " rows/s · ",
        " left",
        "done      ingest 100 rows",
        "to do     screen",
        "failures  ingest: 2 bad_row",
        "failures  fetch: 8 timeout, 2 http_404",
        "lease     this run since 20",
    ):
        assert words in text, text


def test_a_damaged_record_does_not_hide_the_runs_before_it(store: Store) -> None:
    with recorded_run(store, "cats", "fp") as run:
        pass
    store.storage.write("runs/99991231T000000.000000Z-aaaaaa.json", b"{}")
    assert [status.record.run for status in read_status(store)] == [run.record.run]


def test_rows_that_may_stay_and_those_of_held_out_sets_are_no_failures() -> None:
    outcomes = {"ingest": {"ok": 9}, "select": {"eligible": 4, "held_out": 4, "min_side": 1}}
    assert list(failures(outcomes)) == ["select: 1 min_side"]


def test_failures_stand_at_the_stage_that_had_them_first(store: Store) -> None:
    stages = {"ingest": {"bad_row": 2}, "fetch": {"timeout": 8}, "embed": {"no_pixels": 10}}
    handed_on: dict[str, int] = {}
    with recorded_run(store, "birds", "fp") as run:
        for stage, outcomes in stages.items():
            handed_on |= outcomes
            run.add(stage, StageSummary(100, {"ok": 90, **handed_on}, 1.5), {}, "e" * 64)
    lines = [line for line in printed(store).splitlines() if line.startswith("failures")]
    assert lines == [
        "failures  ingest: 2 bad_row",
        "failures  fetch: 8 timeout",
        "failures  embed: 10 no_pixels",
    ]


def test_a_run_that_has_ended_is_shown_until_another_works(store: Store) -> None:
    with suppress(StoreError), working(store) as run:
        raise StoreError("The disk of https://u:pass@host/x is full.")
    text = printed(store)
    assert "of birds: failed, " in text
    assert "error     The disk of https://***@host/x is full." in text
    assert "40 of 98 rows" in text and "lease" not in text
    with recorded_run(store, "cats", "fp") as other:
        pass
    assert [s.record.run for s in read_status(store)] == [other.record.run]
    assert "of cats: finished, " in printed(store)
    assert read_status(store, run.record.run[:26])[0].record.recipe == "birds"
    with ExitStack() as stack:
        runs = [stack.enter_context(recorded_run(store, name, "fp")) for name in "ab"]
        shown = [s.record.run for s in read_status(store)]
    assert shown == [run.record.run for run in reversed(runs)]


def test_a_run_that_waits_for_another_says_for_whom(store: Store) -> None:
    with working(store) as first, recorded_run(store, "cats", "fp", PLANNED) as second:
        second.activity.begin_stage("fetch", STEP)
        second.refresh()
        by_run = {status.record.run: status for status in read_status(store)}
        assert by_run[second.record.run].state == "waiting"
        assert by_run[first.record.run].state == "running"
        assert f"lease     run {first.record.run} since" in printed(store)


def test_a_run_whose_process_was_killed_has_stopped(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with runner(tmp_path) as process:
        assert process.reply() == "holds the lease"
        (status,) = read_status(store)
        assert status.state == "running"
        process.process.kill()
        process.process.join()
        (status,) = read_status(store)
    assert status.state == "stopped"
    assert "of a: stopped, " in printed(store)
    with recorded_run(store, "cats", "fp") as run:
        assert [s.record.run for s in read_status(store)] == [run.record.run]


def test_a_process_of_another_machine_that_gives_no_sign_is_silent() -> None:
    here = this_process("r")
    away = replace(here, host="elsewhere", pid=1)
    updated = datetime.now(UTC) - timedelta(minutes=5)
    record = RunRecord("r", "birds", "fp", holder=away, updated=updated.isoformat())
    assert RunStatus(record, 300.0).state == "silent"
    assert RunStatus(record, 59.0).state == "running"
    assert (
        RunStatus(replace(record, holder=replace(here, process_start=1)), 300.0).state == "stopped"
    )


def test_reading_takes_few_requests_and_writes_nothing(store: Store, storage: Counting) -> None:
    for _ in range(20):
        with recorded_run(store, "old", "fp"):
            pass
    with working(store):
        storage.requests, storage.is_read_only = 0, True
        (status,) = read_status(store)
        # A listing and a record, and of the lease a listing and an entry.
        assert storage.requests == 4
        storage.is_read_only = False
    assert status.state == "running"


class Manual(SystemClock):
    """Repeats a call whenever it is asked to."""

    calls: list[Any]

    def repeat(self, seconds: float, call: Any) -> Any:
        """See `Clock.repeat`."""
        self.calls = [call]
        return self.calls.clear


def test_the_record_is_refreshed_with_one_write_and_not_after_the_end(
    store: Store, storage: Counting
) -> None:
    clock = Manual()
    as_clock: Clock = clock
    with recorded_run(store, "birds", "fp", PLANNED) as run, refreshed(run, as_clock):
        run.activity.begin_stage("fetch", STEP)
        before = storage.requests
        clock.calls[0]()
        assert storage.requests == before + 1
        (status,) = read_status(store)
        assert status.record.progress is not None and status.record.progress.stage == "fetch"
    assert clock.calls == []
    assert [s.state for s in read_status(store)] == ["finished"]


def test_a_refresh_that_fails_leaves_the_run_alone(store: Store, storage: Counting) -> None:
    with working(store) as run:
        storage.is_read_only = True
        run.refresh()
        storage.is_read_only = False
    assert read_status(store)[0].state == "finished"


def test_rates_and_the_time_left_follow_from_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("curation.activity.time.monotonic", lambda: now[0])
    activity = Activity()
    assert activity.progress() is None
    activity.begin_stage("fetch", STEP)
    now[0] += 5
    activity.begin_part("fetch", 3)
    activity.set_counts(WorkCounts(0, 100, "rows"))
    progress = activity.progress()
    assert progress is not None and progress.seconds_left is None and progress.per_second == 0
    now[0] += 10
    activity.set_counts(WorkCounts(20, 100, "rows"))
    progress = activity.progress()
    assert progress is not None
    assert (progress.per_second, progress.seconds_left, progress.stage_seconds) == (2.0, 40.0, 15.0)
    activity.end_part()
    progress = activity.progress()
    assert progress is not None and progress.counts is None


@pytest.mark.parametrize("command", ["status", "runs"])
def test_a_wrong_path_does_not_pass_for_a_store_without_runs(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [command, "--store", str(tmp_path / "mistyped"), "--json"])
    assert isinstance(result.exception, StoreError)
    assert "there is no store" in str(result.exception)
    assert not (tmp_path / "mistyped").exists()
    (tmp_path / "store" / "tombstones").mkdir(parents=True)
    result = CliRunner().invoke(app, [command, "--store", str(tmp_path / "store")])
    assert (result.exit_code, result.output) == (0, f"No run yet in {tmp_path / 'store'}.\n")
