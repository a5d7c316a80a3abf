"""Which runs are kept: records written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from curation.runner.gc.kept_runs import Retention, StoredRun, kept_runs
from curation.store.run_record import RunRecord
from curation.store.storage.base import FileStatus

NOW = 1_000_000.0
HOUR = 3600.0


def stored(name: str, tables: str, age: float, **fields: Any) -> StoredRun:
    """A run, by default a finished one, whose record was written last some hours ago.

    Args:
        name: recipe, fingerprint and time, such as `r.f.3`.
        tables: their names; `d` is the dataset.
        age: in hours.
        fields: of the record.
    """
    recipe, fingerprint, started = name.split(".")
    versions = {"dataset" if t == "d" else t: f"{t}{started}" for t in tables}
    run = f"{started}-{recipe}.{fingerprint}"
    record = RunRecord(
        run, recipe, fingerprint, **{"state": "finished", "tables": versions} | fields
    )
    return StoredRun(record, FileStatus(1, NOW - age * HOUR), {})


def kept(runs: list[StoredRun], working: set[str] | None = None, **options: Any) -> set[str]:
    """The times of the kept runs, without a grace period."""
    ordered = sorted(runs, key=lambda run: run.record.run, reverse=True)
    retention = Retention(**{"grace_s": 0.0} | options)
    names = kept_runs(ordered, set(), working or set(), retention, NOW)
    return {name.split("-")[0] for name in names}


def test_each_recipe_keeps_its_latest_runs() -> None:
    runs = [stored(f"{r}.f.{n}", "abd", 9 - n) for n, r in enumerate("pqpqp")]
    assert kept(runs) == {"3", "4"}
    assert kept(runs, keep=2) == {"1", "2", "3", "4"}
    assert kept(runs, keep=5) == {"0", "1", "2", "3", "4"}


def test_of_a_recipe_that_is_dropped_only_tagged_runs_and_those_at_work_stay() -> None:
    runs = [stored(f"p.f.{n}", "d", 9 - n) for n in range(3)]
    runs += [stored("p.f.3", "a", 0.1, state="running"), stored("p.f.4", "a", 5, state="failed")]
    runs += [stored("q.f.5", "d", 1)]
    assert kept(runs, {"3-p.f"}, dropped=frozenset({"p"}), grace_s=HOUR) == {"3", "5"}


def test_tables_that_a_later_run_lacks_stay_with_the_last_run_that_made_a_dataset() -> None:
    whole, part = stored("r.f.1", "abd", 5), stored("r.f.2", "ab", 4)
    assert kept([whole, part]) == {"1", "2"}
    assert kept([whole, part, stored("r.f.3", "a", 3)]) == {"1", "2", "3"}
    assert kept([whole, part, stored("r.f.3", "ab", 3)]) == {"1", "3"}
    assert kept([whole, part, stored("r.f.3", "abd", 3)]) == {"3"}


def test_a_run_for_each_stage_keeps_all_of_them() -> None:
    """Airflow runs each stage as a run of its own."""
    first = [stored(f"r.f.{n}", t, 9) for n, t in enumerate(["a", "ab", "bc", "cd"])]
    second = [stored(f"r.f.{n}", t, 8) for n, t in enumerate(["a", "ab", "bc", "cd"], 4)]
    assert kept(first) == {"1", "2", "3"}
    assert kept(first + second) == {"5", "6", "7"}


def test_a_table_that_the_recipe_has_no_more_keeps_no_run() -> None:
    assert kept([stored("r.f.1", "abxd", 9), stored("r.g.2", "abd", 8)]) == {"2"}


def test_older_than_keeps_all_younger_runs_and_the_latest() -> None:
    runs = [stored(f"r.f.{n}", "d", age) for n, age in enumerate([90, 40, 20, 10])]
    assert kept(runs, older_than_s=30 * HOUR) == {"2", "3"}
    assert kept(runs, older_than_s=1 * HOUR) == {"3"}


def test_older_than_holds_for_unfinished_runs_too() -> None:
    runs = [stored("r.f.1", "d", 3), stored("r.f.2", "a", 2, state="failed")]
    assert kept(runs, older_than_s=2.5 * HOUR) == {"1", "2"}
    assert kept(runs, older_than_s=1 * HOUR) == kept(runs, older_than_s=0.0) == {"1"}


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ((50, 40, 30), {"2"}),  # replaced 30 hours ago
        ((50, 40, 20), {"1", "2"}),  # replaced 20 hours ago
        ((50, 20, 10), {"0", "1", "2"}),
        ((23, 22, 21), {"0", "1", "2"}),
    ],
)
def test_what_was_the_latest_within_the_grace_period_stays(
    ages: tuple[int, int, int], expected: set[str]
) -> None:
    runs = [stored(f"r.f.{n}", "d", age) for n, age in enumerate(ages)]
    assert kept(runs, grace_s=24 * HOUR) == expected


def test_unfinished_runs_stay_until_the_recipe_finishes() -> None:
    old = stored("r.f.1", "ab", 9, state="failed")
    assert kept([old]) == {"1"}
    assert kept([old, stored("r.f.2", "abd", 8)]) == {"2"}
    new = stored("r.f.3", "a", 7, state="failed")
    assert kept([old, stored("r.f.2", "abd", 8), new]) == {"2", "3"}
    assert kept([old], older_than_s=5 * HOUR) == set()


def test_a_run_that_works_stays_whatever_finished_since() -> None:
    running = stored("r.f.1", "ab", 30, state="running")
    finished = stored("r.f.2", "abd", 8)
    assert kept([running, finished]) == {"2"}
    assert kept([running, finished], working={running.record.run}) == {"1", "2"}
    assert kept([stored("r.f.1", "ab", 0.5, state="running"), finished]) == {"1", "2"}
