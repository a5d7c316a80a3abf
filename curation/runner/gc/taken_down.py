"""What gc does with what was taken down: tags, kept runs and grace periods do not save it.

Of each recipe the latest run alone keeps such tables, until the recipe has run again: the next run
takes the other rows from them and downloads none of these again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from curation.activity import utc_now
from curation.runner.gc.kept_runs import StoredRun
from curation.runner.gc.step_logs import read_logs, stages_at_work
from curation.runner.takedown.search import parquet_files, search_store, table_of
from curation.store.step_log import Lease
from curation.store.store import Store
from curation.store.tombstones import Hits, put_removed
from curation.store.withheld import VersionsWithFiles

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def search_beside_runs(store: Store, lease: Lease) -> Hits | None:
    """Search the store for all tombstones, while no run starts a step; None if there are none.

    Args:
        store: the store.
        lease: that of gc.

    Returns:
        What was found, with the stages that runs work on.
    """
    takedowns = store.takedowns(reload=True)
    if takedowns is None:
        return None
    since = lease.time_of_storage()
    return search_store(store, takedowns, since, stages_at_work(read_logs(store, since)))


def superseded_runs(
    store: Store, runs: Sequence[StoredRun], dropped: Collection[str] = ()
) -> set[str]:
    """Return the runs with withheld tables that a later run of the same recipe made anew.

    Args:
        store: where they are.
        runs: all runs, the one that started last first.
        dropped: recipes that are not run any more, so that no later run makes them anew.
    """
    known = VersionsWithFiles(store, store.withheld_files())
    made: dict[str, set[str]] = {}
    superseded = set()
    for run in runs:
        record = run.record
        withheld = {table for table, version in record.tables.items() if known.has(table, version)}
        later = made.setdefault(record.recipe, set())
        if withheld and (withheld <= later or record.recipe in dropped):
            superseded.add(record.run)
        if record.state == "finished":
            later.update(record.tables)
    return superseded


def quoting_runs(store: Store, runs: Iterable[StoredRun], withheld: Collection[str]) -> set[str]:
    """Return the runs whose log files may quote what was taken down.

    Args:
        store: where they are.
        runs: all runs.
        withheld: files that hold what was taken down. While there are some, any run may read it;
            afterwards, those that began before the last takedown may have.
    """
    takedowns = store.takedowns()
    if takedowns is None:
        return set()
    last = max((tombstone.time for tombstone in takedowns.tombstones), default="")
    return {run.record.run for run in runs if withheld or run.record.started <= last}


def withheld_files(store: Store) -> set[str]:
    """Return the files of the store that hold what was taken down."""
    withheld = store.withheld_files()
    return {path for path in parquet_files(store) if path in withheld} if withheld else set()


def by_table(paths: Iterable[str]) -> dict[str, int]:
    """Return the number of files of each table."""
    return dict(sorted(Counter(table_of(path) for path in paths).items()))


def record_removal(store: Store, removed: Mapping[str, int], left: Mapping[str, int]) -> None:
    """Write what was removed of all tombstones: numbers of files, and nothing of their content."""
    takedowns = store.takedowns()
    assert takedowns is not None
    spec = {
        "time": utc_now(),
        "tombstones": sorted(takedowns.names),
        "removed": dict(removed),
        "left": dict(left),
    }
    put_removed(store.storage, spec | {"signature": takedowns.sign(spec)})
