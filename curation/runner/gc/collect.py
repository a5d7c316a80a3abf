"""Removes what no kept run needs, beside runs that go on. See `curation.store.removal`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from curation.errors import Detail, RecipeError, StoreError, unknown
from curation.progress import ProgressBar
from curation.runner.gc.kept_runs import (
    WORKING,
    Retention,
    StoredRun,
    is_working,
    kept_runs,
    read_stored_runs,
)
from curation.runner.gc.needs import find_needs
from curation.runner.gc.removal_list import RemovalList, Tally
from curation.runner.gc.step_logs import ReadLog, end_silent_leases, read_logs
from curation.runner.gc.sweep import Sweep
from curation.runner.gc.taken_down import (
    by_table,
    quoting_runs,
    record_removal,
    search_beside_runs,
    superseded_runs,
    withheld_files,
)
from curation.runner.takedown.close import close_folders, delete_reports
from curation.store.holder import this_process
from curation.store.layout import check_is_store
from curation.store.log_place import remove_from_state_folder
from curation.store.removal import GC, hold_removal
from curation.store.run_record import RunRecord
from curation.store.step_log import Lease, Waiting
from curation.store.store import Store
from curation.store.tags import FOLDER as TAGS
from curation.store.tags import Tag, read_tags, tag_path

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class Collected:
    """What gc removed, or would remove.

    Attributes:
        kept: the reason why each kept run stays.
        removed: the runs that do not stay.
        tallies: files and bytes by table, and by the other parts of the store.
        taken_down: files with what was taken down that are removed, by table.
        left: such files that stay, by table: until their recipe has run again.
    """

    kept: Mapping[str, str]
    removed: tuple[str, ...]
    tallies: Mapping[str, Tally]
    taken_down: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)


def collect(
    store: Store,
    retention: Retention,
    dry_run: bool = False,
    waiting: Waiting | None = None,
) -> Collected:
    """Remove what no kept run needs.

    Args:
        store: the store.
        retention: which runs to keep.
        dry_run: write and remove nothing; only say what would be removed.
        waiting: what to do while another gc is at work.

    Raises:
        RecipeError: no run is of a recipe of which none is to be kept.
        StoreError: there is no store, or nobody knows what is needed, because the record of a run or a
            tag is damaged or missing; nothing was removed.
        LeaseError: another gc is at work, and `waiting.wait` is False; or a run took over.
    """
    check_is_store(store.storage)
    if dry_run:
        return _collect(store, retention, None, time.time())
    with hold_removal(store, waiting) as lease:
        if search_beside_runs(store, lease) is not None:
            # The command that took rows down may have been interrupted before it did so.
            delete_reports(store)
            close_folders(store)
        return _collect(store, retention, lease, lease.time_of_storage())


def _collect(store: Store, retention: Retention, lease: Lease | None, now: float) -> Collected:
    # In this order, a run that starts and is tagged meanwhile has its record.
    tags, runs = read_tags(store), read_stored_runs(store)
    _check_records(store, runs, tags)
    _check_dropped(retention, runs)
    logs = read_logs(store, now)
    if lease is not None:
        logs = end_silent_leases(logs, this_process(GC))
    leases = [log.lease for log in logs.values() if log.lease is not None]
    working = {lease.holder.run for lease in leases if lease.holder is not None}
    kept = kept_runs(runs, {tag.run for tag in tags}, working, retention, now)
    superseded = superseded_runs(store, runs, retention.dropped)
    kept = {r: reason for r, reason in kept.items() if reason == WORKING or r not in superseded}
    stay, go_on = _records(runs, kept, working, retention, now)
    needs = find_needs(store, stay, go_on, logs)
    before = withheld_files(store)
    quoting = quoting_runs(store, runs, before) - {record.run for record in go_on}
    # A takedown waits for no grace period.
    removals = RemovalList(store.storage, lease, now - (0.0 if before else retention.grace_s))
    sweep = Sweep(store, needs, removals, now, frozenset(before))
    records = {path: status for run in runs for path, status in run.files.items()}
    paths = {run.record.path for run in runs if run.record.run in kept}
    _remove_tags(removals, [tag for tag in tags if tag.run in superseded.difference(kept)])
    # First, so that no run is listed whose tables are gone.
    removals.decide("runs", records, paths.__contains__)
    sweep.logs(kept, quoting)
    # Before the files that these folders open.
    sweep.open_folders()
    _sweep_everything(sweep, logs)
    removed = tuple(run.record.run for run in runs if run.record.run not in kept)
    if lease is not None:
        remove_from_state_folder({*removed, *quoting})
    left = {path for path in withheld_files(store) if path not in removals.forced}
    counts = [by_table(before - left), by_table(left)]
    if lease is not None and before - left:
        record_removal(store, counts[0], counts[1])
    return Collected(kept, removed, removals.tallies, *counts)


def _check_records(store: Store, runs: Sequence[StoredRun], tags: Sequence[Tag]) -> None:
    """Check that the records of runs say what is needed.

    Raises:
        StoreError: there are none, or that of a run with a tag is missing.
    """
    names = {run.record.run for run in runs}
    lost = next((tag for tag in tags if tag.run not in names), None)
    if lost is not None:
        raise StoreError(
            Detail(
                f"The tag {lost.name!r} in {store.uri} names run {lost.run}, whose record is missing, "
                "so nobody knows what it needs. Nothing was removed",
                found=lost.run,
                fix="Put the record back, or delete the tag "
                f"(curation tag {lost.name} --delete --store STORE)",
            )
        )
    if not runs:
        raise StoreError(
            f"{store.uri} has no record of a run, so nobody knows what is needed. Nothing was removed",
            fix="Run its recipes again, or delete the folder if nothing of it is needed",
        )


def _check_dropped(retention: Retention, runs: Sequence[StoredRun]) -> None:
    """Check that there are runs of the recipes of which none is kept.

    Raises:
        RecipeError: there is none of one.
    """
    names = sorted({run.record.recipe for run in runs})
    missing = sorted(retention.dropped.difference(names))
    if missing:
        raise RecipeError(*(unknown("recipe", name, names, "--drop") for name in missing))


def _remove_tags(removals: RemovalList, tags: Sequence[Tag]) -> None:
    """Remove tags whose runs are removed, because they have what was taken down."""
    if tags:
        paths = {tag_path(tag.name) for tag in tags}
        removals.decide("tags", removals.storage.files(TAGS), lambda path: path not in paths)


def _records(
    runs: list[StoredRun],
    kept: Mapping[str, str],
    working: set[str],
    retention: Retention,
    now: float,
) -> tuple[list[RunRecord], list[RunRecord]]:
    """Return the records of kept runs, and of those that may go on."""
    stay = [run for run in runs if run.record.run in kept]
    go_on = [run for run in stay if is_working(run, working, retention.grace_s, now)]
    return [run.record for run in stay], [run.record for run in go_on]


def _sweep_everything(sweep: Sweep, logs: Mapping[str, ReadLog]) -> None:
    parts: list[tuple[str, Callable[[], None]]] = [
        *((table, partial(sweep.table, table)) for table in sweep.tables()),
        ("reports", sweep.reports),
        *(
            (f"work/{name}", partial(sweep.work, name))
            for name in sweep.store.storage.folders("work")
        ),
        ("steps", partial(sweep.step_logs, logs)),
        ("leftovers", sweep.leftovers),
        ("gc", sweep.removal_log),
    ]
    with ProgressBar("removing", len(parts)) as bar:
        for done, (label, remove) in enumerate(parts):
            bar.set_note(label)
            remove()
            bar.set_done(done + 1)
