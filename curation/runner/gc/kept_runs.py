"""Which runs are kept, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from curation.errors import StoreError
from curation.store.run_log import names_of, read_record, run_paths
from curation.store.run_record import FOLDER, RunRecord
from curation.store.storage.base import FileStatus
from curation.store.store import DATASET, Store, in_parallel

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class Retention:
    """Which runs to keep besides those that are tagged or at work.

    Attributes:
        keep: number of the latest finished runs of each recipe.
        older_than_s: finished runs that ended less than so many seconds ago are kept too; None: none.
        grace_s: seconds for which a run is kept after a later one replaced it, and for which a file
            is kept that nothing names.
        dropped: names of recipes of which no run is kept.
    """

    keep: int = 1
    older_than_s: float | None = None
    grace_s: float = 24 * 3600.0
    dropped: frozenset[str] = frozenset()


class StoredRun(NamedTuple):
    """The record of a run.

    Attributes:
        record: the record.
        status: of its file; its time is by the clock of the storage.
        files: that file, and one that it replaced, if that is still there.
    """

    record: RunRecord
    status: FileStatus
    files: Mapping[str, FileStatus]

    @property
    def modified(self) -> float:
        """When the record was written last: for a finished run, when it ended."""
        return self.status.modified


def read_stored_runs(store: Store) -> list[StoredRun]:
    """Return all runs, the one that started last first.

    Raises:
        StoreError: a record cannot be read, so nobody knows what its run needs.
    """
    listed = store.storage.files(FOLDER)
    paths = list(run_paths(listed).values())
    records = list(in_parallel(lambda path: read_record(store, path), paths))
    # A record that vanished since it was listed is that of a run that somebody removed.
    damaged = [
        path
        for path, record in zip(paths, records, strict=True)
        if record is None and any(store.storage.status(p) for p in names_of(path))
    ]
    if damaged:
        raise StoreError(
            f"{len(damaged)} records of runs in {store.uri} are damaged, or were written by "
            "another version of curation, so nobody knows what these runs need: "
            f"{', '.join(damaged[:5])}",
            fix="Delete these files if the runs are not needed any more. Nothing was removed",
        )
    files = [{p: listed[p] for p in names_of(path) if p in listed} for path in paths]
    return [
        StoredRun(record, listed[path], of_run)
        for path, record, of_run in zip(paths, records, files, strict=True)
        if record is not None
    ]


def kept_runs(
    runs: Sequence[StoredRun],
    tagged: Collection[str],
    working: Collection[str],
    retention: Retention,
    now: float,
) -> dict[str, str]:
    """Return the runs to keep, each with the reason.

    Args:
        runs: all runs, the one that started last first.
        tagged: runs that have a tag.
        working: runs that work on a stage now.
        retention: what to keep.
        now: the time by the clock of the storage, in seconds since 1970.
    """
    kept: dict[str, str] = {}
    for recipe in dict.fromkeys(run.record.recipe for run in runs):
        of_recipe = [run for run in runs if run.record.recipe == recipe]
        for reason, chosen in _reasons(of_recipe, working, retention, now):
            if reason == WORKING or recipe not in retention.dropped:
                for run in chosen:
                    kept.setdefault(run.record.run, reason)
    for run in runs:
        if run.record.run in tagged:
            kept[run.record.run] = "tagged"
    return kept


def _reasons(
    runs: Sequence[StoredRun], working: Collection[str], retention: Retention, now: float
) -> Iterable[tuple[str, Iterable[StoredRun]]]:
    """Yield reasons to keep runs of one recipe, each with the runs."""
    finished = [run for run in runs if run.record.state == "finished"]
    unfinished = [run for run in runs if run.record.state != "finished"]
    yield "latest", latest_runs(finished, retention.keep)
    yield WORKING, (r for r in unfinished if is_working(r, working, retention.grace_s, now))
    limit = retention.older_than_s
    if limit is not None:
        yield "young", (run for run in finished if run.modified > now - limit)
    # A resume needs what an unfinished run has finished.
    last = finished[0].record.run if finished else ""
    yield (
        "unfinished",
        (
            r
            for r in unfinished
            if r.record.run > last and (limit is None or r.modified > now - limit)
        ),
    )
    # Whatever was the latest at some time within the grace period.
    start = now - retention.grace_s
    earlier = [run for run in finished if run.modified <= start]
    yield "grace period", latest_runs(earlier, retention.keep)
    yield "grace period", (run for run in runs if run.modified > start)


def is_working(run: StoredRun, working: Collection[str], grace_s: float, now: float) -> bool:
    """Whether a run may go on: its record says so, and its process is not known to have ended.

    A run of another machine that ended without a word shows no sign of life any more.
    """
    if run.record.current_state != "running":
        return False
    return run.record.run in working or run.modified > now - max(grace_s, SILENCE_S)


WORKING = "working"
"""Why a run is kept that goes on."""
SILENCE_S = 3600.0
"""Seconds without a sign of life after which a process of another machine counts as ended."""


def latest_runs(finished: Sequence[StoredRun], count: int) -> list[StoredRun]:
    """Return the runs that have one of the `count` latest versions of a table, the latest first.

    A run of some stages alone (`--until`, `--only`, a task of Airflow) has some tables only. So runs
    are counted for each table, back to the last but `count` run that made a dataset. Of an earlier
    run of the same recipe, only tables count that no later one has.

    Args:
        finished: finished runs of one recipe, the one that started last first.
        count: how many versions of each table to keep.
    """
    with_dataset = [n for n, run in enumerate(finished) if DATASET in run.record.tables]
    end = with_dataset[count - 1] + 1 if len(with_dataset) >= count else len(finished)
    chosen = [*_with_new_tables(finished[:end], count)]
    present = {(r.record.fingerprint, table) for r in chosen for table in r.record.tables}
    fingerprints = {fingerprint for fingerprint, _ in present}
    for run in finished[end:]:
        new = {(run.record.fingerprint, table) for table in run.record.tables} - present
        if run.record.fingerprint in fingerprints and new:
            chosen.append(run)
            present |= new
    return chosen


def _with_new_tables(finished: Sequence[StoredRun], count: int) -> Iterable[StoredRun]:
    runs_with: Counter[str] = Counter()
    for run in finished:
        if any(runs_with[table] < count for table in run.record.tables):
            yield run
        runs_with.update(run.record.tables.keys())
