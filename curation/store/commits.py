"""Finds what a step committed: last, or for the tables of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curation.errors import StoreError
from curation.store.manifest import Committed
from curation.store.step_log import Entry, StepLog

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def last_commit(log: StepLog) -> Mapping[str, Committed]:
    """Return the versions that a step committed last, by table.

    Raises:
        StoreError: the last entry of its log is damaged, and may have been a later commit.
    """
    last = log.latest()
    if last.is_damaged:
        raise StoreError(
            f"{log.store.address(log.path(last.number))} is damaged, so nobody knows which versions "
            "its step committed last",
            fix="Run the whole recipe, without --only and --from: it commits them again",
        )
    return last.tables


def find_commit(
    entries: Sequence[Entry], table: str, tables: Mapping[str, str]
) -> tuple[Entry, Committed] | None:
    """Return what a step committed for a table of a run, with the last entry that says so.

    The same version may have been committed several times, made from different versions of other
    tables. The commit counts that was made from those of the run.

    Args:
        entries: of the log of the step, in order.
        table: the table.
        tables: the versions of the run, by table. Without the table itself, its version is found, too.
    """
    for entry in reversed(entries):
        committed = entry.tables.get(table)
        if committed is None or tables.get(table, committed.version) != committed.version:
            continue
        if all(tables.get(name, made) == made for name, made in committed.lineage.items()):
            return entry, committed
    return None
