"""Names a run for good, and makes the tables of an earlier run the latest again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from curation.engine.iceberg import publish_all
from curation.errors import Detail, StoreError, TakenDownError
from curation.flow import STAGES
from curation.runner.work import map_key
from curation.store.commits import find_commit
from curation.store.holder import Holder, this_process
from curation.store.manifest import TABLE_STATS, Committed, Manifest
from curation.store.removal import wait_for_removal
from curation.store.run_log import find_run, read_runs, recorded, refreshed, run_names
from curation.store.run_record import RunRecord, new_run
from curation.store.step_log import StepLog, Waiting, hold
from curation.store.store import Store
from curation.store.tags import Tag, add_tag, delete_tag, find_tag

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def tag_run(store: Store, name: str, run: str | None, waiting: Waiting) -> Tag:
    """Give a run a name, so that gc keeps it.

    Args:
        store: where it is.
        name: the name.
        run: the run, or the beginning of its name. The default is the latest finished run.
        waiting: what to do while gc is at work.

    Raises:
        StoreError: there is no such run, it lost a table or has rows that were taken down, or the name
            is in use.
        LeaseError: gc is at work, and `waiting.wait` is False.
    """
    record = find_run(store, run) if run else _latest(store)
    is_new = find_tag(store, name) is None
    tag = add_tag(store, name, record.run)
    try:
        # A gc that started before it could see the tag may be removing the run.
        wait_for_removal(store, this_process(f"tag {name}"), waiting)
        read_manifests(store, find_run(store, record.run))
    except StoreError:
        if is_new:
            delete_tag(store, name)
        raise
    return tag


def _latest(store: Store) -> RunRecord:
    for record in read_runs(store):
        if record.state == "finished":
            return record
    fix = "Run a recipe, or name a run (--run)"
    raise StoreError(Detail(f"No run has finished in {store.uri}", store.uri, fix=fix))


def restore_run(store: Store, record: RunRecord, waiting: Waiting) -> RunRecord:
    """Make the tables of an earlier run the latest: of the store, and of the steps that wrote them.

    The next run of the same recipe finds these tables up to date, if its sources are still the same.

    Args:
        store: where it is.
        record: the run.
        waiting: what to do while another run works on one of the steps, or gc is at work.

    Returns:
        The record of a new run with the same tables.

    Raises:
        StoreError: the run has not finished, or a table or file of it is missing, or has rows that were
            taken down.
        LeaseError: another run or gc is at work, and `waiting.wait` is False.
    """
    if record.state != "finished":
        raise StoreError(
            f"Run {record.run} in {store.uri} has not finished ({record.current_state}), so "
            "it has nothing to restore",
            fix="Choose one that has finished (curation runs --store STORE)",
        )
    # Otherwise the record of a run that is refused would have gc keep what is left of its tables.
    read_manifests(store, record)
    planned = dict.fromkeys(record.steps.values(), "")
    start = new_run(record.recipe, record.fingerprint, planned, run_names(store))
    restored = replace(
        start,
        stages=record.stages,
        rows=record.rows,
        outcomes=record.outcomes,
        tables=record.tables,
        steps=record.steps,
        restored_from=record.run,
    )
    # The record is written first: gc keeps what that of a running run names.
    with recorded(store, restored) as run, refreshed(run, waiting.clock):
        _commit_again(store, restored, waiting)
    return run.record


def read_manifests(store: Store, record: RunRecord) -> dict[str, Manifest]:
    """Return the manifests of the tables of a run.

    Raises:
        TakenDownError: tables hold rows that were taken down; the message names them.
        StoreError: a manifest or a file is missing; the message names the tables.
    """
    name = record.restored_from or record.run
    again = f"Run its recipe {record.recipe!r} again as it was then: it computes"
    manifests = {t: store.manifest(t, version) for t, version in record.tables.items()}
    withheld = [t for t, m in manifests.items() if m is not None and store.is_withheld(m)]
    if withheld:
        raise TakenDownError(
            f"Run {name} in {store.uri} has rows that were taken down, in "
            f"{_named(withheld, record)}, and they do not come back",
            fix=f"{again} the other rows",
        )
    complete = {t: m for t, m in manifests.items() if m is not None and store.is_complete(m)}
    lost = [t for t in manifests if t not in complete]
    if lost:
        raise StoreError(
            f"Run {name} in {store.uri} is not whole: a manifest or a file is missing "
            f"of {_named(lost, record)}",
            fix=f"{again} what is missing",
        )
    return complete


def _named(tables: Iterable[str], record: RunRecord) -> str:
    return ", ".join(f"{table} (version {record.tables[table][:12]})" for table in tables)


def _commit_again(store: Store, record: RunRecord, waiting: Waiting) -> None:
    holder = record.holder or this_process(record.run)
    wait_for_removal(store, holder, waiting)
    manifests = read_manifests(store, record)
    for step in dict.fromkeys(record.steps.values()):
        wanted = {
            table: _committed(StepLog(store, step), manifests[table], record, manifests)
            for table, writer in record.steps.items()
            if writer == step
        }
        _commit_step(StepLog(store, step), wanted, manifests, holder, waiting)
    publish_all(store, record.recipe, list(manifests.values()), record.run)


def _commit_step(
    log: StepLog,
    wanted: Mapping[str, Committed],
    manifests: Mapping[str, Manifest],
    holder: Holder,
    waiting: Waiting,
) -> None:
    """Commit versions to the log of a step, unless they are the last ones already."""
    last = log.latest()
    is_last = all(last.tables.get(table) == version for table, version in wanted.items())
    if is_last and not last.is_damaged:
        return
    stage = manifests[next(iter(wanted))].stage
    reads = {table: committed.version for table, committed in wanted.items()}
    with hold(log, holder, stage, reads, waiting) as lease:
        lease.commit({**lease.committed, **wanted})


def _committed(
    log: StepLog, manifest: Manifest, record: RunRecord, manifests: Mapping[str, Manifest]
) -> Committed:
    """Return what a step committed for a version, or what it would have committed."""
    commit = find_commit(log.entries(), manifest.table, record.tables)
    if commit is not None:
        return commit[1]
    lineage = {name: record.tables[name] for name in _ancestors(manifest, manifests)}
    return Committed(manifest.version, _key(log.store, manifest), lineage)


def _ancestors(manifest: Manifest, manifests: Mapping[str, Manifest]) -> set[str]:
    """Return the tables of a run that a table was made from, directly or not."""
    ancestors: set[str] = set()
    waiting = [manifest]
    while waiting:
        reads = {t for t in waiting.pop().reads if t in manifests} - ancestors
        ancestors |= reads
        waiting += [manifests[table] for table in reads]
    return ancestors


def _key(store: Store, manifest: Manifest) -> str:
    """Return a digest of everything that decided the rows of a version; "" if it is not known.

    A step whose key differs computes its rows again, or finds them by their memos.
    """
    stage = STAGES.get(manifest.stage)
    if stage is None:
        return ""
    if stage.kind == "map":
        measured = {name: manifest.stats[name] for name in TABLE_STATS if name in manifest.stats}
        return map_key(stage.name, [(f.name, f.memo) for f in manifest.fragments], measured)
    for key in store.keys(manifest.table):
        if store.version_for_key(manifest.table, key) == manifest.version:
            return key
    return ""
