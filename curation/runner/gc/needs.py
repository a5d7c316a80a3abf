"""What the kept runs, and the runs that work now, need of a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from curation.engine.iceberg import published
from curation.engine.table_name import TableName
from curation.flow import STAGES
from curation.runner.gc.step_logs import ReadLog
from curation.store.commits import find_commit
from curation.store.manifest import Committed
from curation.store.run_record import RunRecord
from curation.store.step_log import Entry
from curation.store.store import Store
from curation.store.used_work import FOLDER as USED
from curation.store.used_work import used_memos

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass
class Needs:
    """What must stay.

    Attributes:
        versions: versions of tables, by table.
        required: those of them that a kept run names. Without its manifest, nobody knows which files
            such a version needs.
        working: the stages that a run works on now, or looks for work of.
        resumable: stages that a kept run has not finished, with the time when the first of them took
            the lease: what was finished since then stays.
        used: memos of work tables and states, by stage.
        steps: fingerprints of the steps of kept runs.
        tables: the tables of the kept runs of each recipe.
        entries: the paths of entries of step logs.
    """

    versions: dict[str, set[str]] = field(default_factory=dict)
    required: set[tuple[str, str]] = field(default_factory=set)
    working: set[str] = field(default_factory=set)
    resumable: dict[str, float] = field(default_factory=dict)
    used: dict[str, set[str]] = field(default_factory=dict)
    steps: set[str] = field(default_factory=set)
    tables: dict[str, set[str]] = field(default_factory=dict)
    entries: set[str] = field(default_factory=set)

    def add_versions(self, tables: Mapping[str, str]) -> None:
        """Add a version of each of some tables."""
        for table, version in tables.items():
            self.versions.setdefault(table, set()).add(version)

    def add_committed(self, tables: Iterable[tuple[str, Committed]]) -> None:
        """Add versions, and those that they were made from."""
        for table, committed in tables:
            self.add_versions({**committed.lineage, table: committed.version})

    def is_working(self, table: str) -> bool:
        """Whether a run may be writing a table now. Any stage that is not known may write it."""
        return any(
            stage not in STAGES or STAGES[stage].contract == TableName(table).contract
            for stage in self.working
        )

    def opens(self, recipe: str, table: str) -> bool:
        """Whether other programs may open a table of a recipe: a kept run has it, or may be making it.

        An encoder that the recipe has no more leaves a folder that opens its last vectors.
        """
        tables = self.tables.get(recipe)
        return tables is not None and (table in tables or self.is_working(table))

    def resumable_since(self, table: str) -> float | None:
        """Return since when unfinished work on a table stays; None if none does."""
        times = [
            time
            for stage, time in self.resumable.items()
            if stage in STAGES and STAGES[stage].contract == TableName(table).contract
        ]
        return min(times, default=None)


def find_needs(
    store: Store,
    kept: Iterable[RunRecord],
    working: Iterable[RunRecord],
    logs: Mapping[str, ReadLog],
) -> Needs:
    """Return what kept runs need.

    Args:
        store: where they are.
        kept: the records of all kept runs.
        working: the records of those that may go on.
        logs: the logs of all steps.
    """
    needs, kept = Needs(), list(kept)
    for record in kept:
        needs.add_versions(record.tables)
        needs.required |= set(record.tables.items())
        needs.steps |= {*record.steps.values(), *record.planned}
        needs.tables.setdefault(record.recipe, set()).update(record.tables)
        _add_history(needs, record, logs)
        if record.state != "finished":
            _add_unfinished(needs, record, logs)
    for record in working:
        needs.working |= _looking_for_work(record)
    for log in logs.values():
        if log.lease is not None:
            needs.working.add(log.lease.stage)
            needs.add_versions(log.lease.reads)
            needs.add_committed(log.lease.tables.items())
    for opened in published(store):
        if needs.opens(opened.recipe, opened.table):
            needs.add_versions({opened.table: opened.version})
    _add_used_work(needs, store, logs)
    return needs


def _add_history(needs: Needs, record: RunRecord, logs: Mapping[str, ReadLog]) -> None:
    """Add what the versions of a run were made from, and the entries that say so."""
    for table, step in record.steps.items():
        commit = find_commit(logs[step].entries, table, record.tables) if step in logs else None
        if commit is not None:
            entry, committed = commit
            needs.add_committed([(table, committed)])
            needs.entries.add(logs[step].log.path(entry.number))


def _add_unfinished(needs: Needs, record: RunRecord, logs: Mapping[str, ReadLog]) -> None:
    """Add what a run would find up to date, what it committed, and the work that it left."""
    for step in record.planned:
        if step in logs and logs[step].committed is not None:
            needs.add_committed(_tables(logs[step].committed))
    for log in logs.values():
        for entry in log.entries:
            if entry.holder is not None and entry.holder.run == record.run:
                needs.entries.add(log.log.path(entry.number))
                needs.add_committed(entry.tables.items())
                if entry.kind == "lease":
                    since = min(log.modified(entry), needs.resumable.get(entry.stage, float("inf")))
                    needs.resumable[entry.stage] = since


def _tables(entry: Entry | None) -> Iterable[tuple[str, Committed]]:
    return () if entry is None else entry.tables.items()


def _looking_for_work(record: RunRecord) -> set[str]:
    """Return the stages whose finished work a run may be looking up now, before it takes a lease."""
    coming = set(record.planned.values()) - set(record.stages)
    return {name for name in coming if name and (name not in STAGES or STAGES[name].units)}


def _add_used_work(needs: Needs, store: Store, logs: Mapping[str, ReadLog]) -> None:
    """Add the work tables and states that the steps of kept runs noted."""
    for name in store.storage.folders("work"):
        noted = {PurePosixPath(p).stem for p in store.storage.files(f"work/{name}/{USED}")}
        for step in noted & needs.steps & logs.keys():
            needs.used.setdefault(name, set()).update(used_memos(store, name, step))
