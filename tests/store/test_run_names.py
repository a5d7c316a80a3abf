"""Names of runs tell which one started last, although clocks of machines differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from curation.runner.gc.collect import collect
from curation.runner.gc.kept_runs import Retention
from curation.store.manifest import Committed
from curation.store.run_log import StageSummary, latest_run, read_runs, recorded_run, save_record
from curation.store.run_record import RunRecord, new_run
from curation.store.store import Store

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1))
STRAY = st.text("0123456789TZ.-abc", max_size=30)


def name_at(time: datetime) -> str:
    return f"{time:%Y%m%dT%H%M%S}.{time:%f}Z-abcdef"


@given(times=st.lists(TIMES, max_size=4), stray=st.lists(STRAY, max_size=3))
def test_a_run_is_named_after_all_that_there_are(times: list[datetime], stray: list[str]) -> None:
    earlier = [name_at(time) for time in times]
    names = [*earlier]
    for _ in range(3):
        names.append(new_run("r", "f", earlier=[*names, *stray]).run)
    made = names[len(earlier) :]
    assert made == sorted(made)
    assert all(name[:23] > max((n[:23] for n in earlier), default="") for name in made)
    now = datetime.now(UTC).replace(tzinfo=None)
    if all(time < now - timedelta(days=1) for time in times):
        assert abs(datetime.strptime(made[0][:23], "%Y%m%dT%H%M%S.%fZ") - now) < timedelta(hours=1)


def test_the_run_that_started_last_is_the_latest_though_another_clock_is_ahead(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    ahead = datetime.now(UTC) + timedelta(days=2)
    tables = {"pairs": "of-the-other-machine"}
    record = RunRecord(name_at(ahead), "recipe", "f", "finished", str(ahead), tables=tables)
    save_record(store, record)
    with recorded_run(store, "recipe", "f") as run:
        run.add("ingest", StageSummary(0), {"pairs": Committed("made-here", "")}, "step")
    latest = latest_run(store, "pairs")
    assert latest is not None and latest.run == run.record.run
    assert [each.run for each in read_runs(store)] == [run.record.run, record.run]
    collected = collect(store, Retention(grace_s=0.0))
    assert collected.removed == (record.run,)
