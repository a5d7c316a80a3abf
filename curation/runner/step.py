"""Runs one step: brings its tables up to date, and commits them all at once.

A crash at any point leaves the committed tables as they were. The next run finds the finished units by
their memos and computes the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from curation.engine.iceberg import publish_all
from curation.engine.parallel import Parallel
from curation.engine.table import Table, open_table
from curation.engine.table_name import TableName
from curation.errors import DamagedFileError
from curation.flow import Step
from curation.media.encoders.compatibility import check_spaces
from curation.runner.expectations import check_expectations
from curation.runner.global_stage import compute_global, global_work
from curation.runner.inputs import Inputs, find_inputs, set_aside_damaged
from curation.runner.map_stage import compute_map, map_work
from curation.runner.outcomes import check_outcomes, stale_part
from curation.runner.takedown.during_runs import check_written
from curation.runner.work import StepContext, StepWork, new_manifest, publish_dataset
from curation.store.manifest import Committed, Manifest, count_rows_of_members
from curation.store.removal import wait_for_removal
from curation.store.run_log import Run, StageSummary, recorded_run
from curation.store.step_log import Entry, Lease, StepLog, Waiting, hold
from curation.store.store import DATASET, Store
from curation.store.used_work import put_used_memos
from curation.store.withheld import check_searched

logger = logging.getLogger(__name__)

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class StepResult:
    """What one step did.

    Attributes:
        step: the step.
        computed: number of fragments that were computed.
        reused: number of fragments that earlier runs had computed.
        seconds: wall time.
        manifests: the versions that it committed.
        reads: version of each table that it read.
    """

    step: Step
    computed: int
    reused: int
    seconds: float
    manifests: Sequence[Manifest] = ()
    reads: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows of its table. Those of several encoders have the same rows."""
        return max(manifest.rows for manifest in self.manifests)

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to compute."""
        return self.computed == 0

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Number of rows by `ok` or reason, of all roles, where the stage counts them."""
        return count_rows_of_members(m.counts for m in self.manifests)


def run_step(
    step: Step,
    store: Store,
    parallel: Parallel,
    run: Run | None = None,
    waiting: Waiting | None = None,
    tables: Mapping[str, Table] | None = None,
) -> StepResult:
    """Bring the tables of a step up to date and commit them.

    Args:
        step: the step.
        store: where tables are.
        parallel: the workers.
        run: the run that the step belongs to. The default is a run of this step alone.
        waiting: what to do while another run works on the same step; by default, wait.
        tables: what the step reads. The default is what `find_inputs` returns.

    Raises:
        BoundsError: more rows failed than the recipe allows. The step is committed, and a run that
            tries again asks only for rows that failed.
        StoreError: a table that the step reads is not committed or is damaged, tables were made from
            different versions of another one, or hold vectors of different encoders.
        LeaseError: another run works on the step, or took it over.
        ContractError: the stage yielded rows that break the contract of its table.
    """
    if run is None:
        with recorded_run(store, step.recipe, step.run, planned_steps([step])) as recorded:
            return run_step(step, store, parallel, recorded, waiting, tables)
    started = time.monotonic()
    within = StepContext(store, parallel, run, waiting or Waiting())
    run.activity.begin_stage(step.name, step.fingerprint)
    if run.removals is None:
        run.removals = wait_for_removal(store, run.holder, within.waiting)
    try:
        outcome = _bring_up_to_date(step, tables, within)
        run.use(outcome.committed, step.fingerprint)
        check_outcomes(step, outcome.manifests)
        if step.expect is not None and step.tables == (DATASET,):
            dataset = outcome.manifests[0]
            # Tables that are given have no lineage.
            claims = _reads(step, outcome.committed).get("claims", dataset.reads["claims"])
            check_expectations(step, step.expect, dataset, claims, within)
        publish_all(store, step.recipe, outcome.manifests, run.record.run)
    except DamagedFileError as error:
        set_aside_damaged(error, store)
        raise
    return _end_step(step, outcome, run, time.monotonic() - started)


def _end_step(step: Step, outcome: _Outcome, run: Run, seconds: float) -> StepResult:
    """Add a step that has ended to its run, and return its result."""
    reads = _reads(step, outcome.committed)
    counts = outcome.computed, outcome.reused
    result = StepResult(step, *counts, seconds, outcome.manifests, reads)
    summary = StageSummary(result.rows, result.outcomes, seconds)
    run.add(step.name, summary, outcome.committed, step.fingerprint)
    logger.info(
        "%s: %d fragments computed, %d reused, %d rows, %.1f s",
        *(step.name, *counts, result.rows, seconds),
    )
    return result


def _reads(step: Step, committed: Mapping[str, Committed]) -> dict[str, str]:
    """Return the version of each table that a step read, as it committed them."""
    lineage = next(iter(committed.values())).lineage
    return {table: lineage[table] for table in step.inputs if table in lineage}


def planned_steps(steps: Iterable[Step]) -> dict[str, str]:
    """Return what a run of some steps records as planned (see `RunRecord`)."""
    steps = list(steps)
    read = {writer: "" for step in steps for writer in step.writers.values()}
    return read | {step.fingerprint: step.name for step in steps}


class _Prepared(NamedTuple):
    """What a step reads and has to do."""

    inputs: Inputs
    work: StepWork


def _prepare(step: Step, tables: Mapping[str, Table] | None, within: StepContext) -> _Prepared:
    inputs = find_inputs(step, within.store, within.run) if tables is None else Inputs(tables, {})
    check_spaces(step.name, inputs.tables, inputs.lineage)
    return _Prepared(inputs, _work(step, inputs, within))


def _work(step: Step, inputs: Inputs, within: StepContext) -> StepWork:
    if step.stage.kind == "map":
        return map_work(step, inputs.tables, within)
    return global_work(step, inputs.tables)


def _opened_again(tables: Mapping[str, Table] | None, store: Store) -> Mapping[str, Table] | None:
    if tables is None:
        return None
    return {name: open_table(store, name, t.manifest.version) for name, t in tables.items()}


class _Outcome(NamedTuple):
    """What a step committed, and the number of fragments computed and reused."""

    committed: Mapping[str, Committed]
    manifests: Sequence[Manifest]
    computed: int
    reused: int


def _bring_up_to_date(
    step: Step, tables: Mapping[str, Table] | None, within: StepContext
) -> _Outcome:
    _read_takedowns(within)
    log = StepLog(within.store, step.fingerprint)
    last = log.latest()
    within = replace(within, stale=stale_part(step, last, within))
    inputs, work = _prepare(step, tables, within)
    manifests = _finished(work, last, within)
    if manifests is not None and _has_lineage(last, inputs) and not last.is_damaged:
        return _unchanged(last, manifests)
    reads = {name: table.manifest.version for name, table in inputs.tables.items()}
    with hold(log, within.run.holder, step.name, reads, within.waiting) as lease:
        removals = wait_for_removal(within.store, within.run.holder, within.waiting)
        is_same = lease.number == last.number + 1 and removals == within.run.removals
        if removals != within.run.removals:
            # gc may have removed what was found before it could see the lease, or rows were taken
            # down.
            within.store.takedowns(reload=True)
            inputs, work = _prepare(step, _opened_again(tables, within.store), within)
            within.run.removals = removals
        elif not is_same:
            # What was committed in the meantime may decide rows.
            work = _work(step, inputs, within)
        if not is_same:
            # The run that was waited for may have done the same.
            last = replace(last, tables=lease.committed)
            manifests = _finished(work, last, within)
        if manifests is None:
            return _compute(step, work, inputs, within, lease)
        # The same rows, made from other versions of the tables before them.
        committed = {
            t: replace(c, lineage=inputs.lineage) for t, c in last.tables.items() if t in work.keys
        }
        _note_used_work(step, work, within.store)
        lease.commit(committed)
        return _unchanged(replace(last, tables=committed), manifests)


def _read_takedowns(within: StepContext) -> None:
    takedowns = within.store.takedowns(reload=True)
    if takedowns is not None and takedowns.unsearched:
        wait_for_removal(within.store, within.run.holder, within.waiting)
        check_searched(within.store, within.store.takedowns(reload=True))


def _has_lineage(last: Entry, inputs: Inputs) -> bool:
    return all(committed.lineage == inputs.lineage for committed in last.tables.values())


def _unchanged(last: Entry, manifests: Sequence[Manifest]) -> _Outcome:
    fragments = sum(max(len(manifest.fragments), 1) for manifest in manifests)
    tables = {m.table: last.tables[m.table] for m in manifests}
    return _Outcome(tables, manifests, 0, fragments)


def _finished(work: StepWork, last: Entry, within: StepContext) -> list[Manifest] | None:
    """Return the committed versions, if nothing that decides rows changed and all files are there."""
    if within.stale:
        return None
    store, manifests = within.store, []
    for table, key in work.keys.items():
        committed = last.tables.get(table)
        if committed is None or committed.key != key:
            return None
        manifest = store.manifest(table, committed.version)
        if manifest is None or not store.is_complete(manifest):
            return None
        manifests.append(manifest)
    return manifests


def _compute(
    step: Step, work: StepWork, inputs: Inputs, within: StepContext, lease: Lease
) -> _Outcome:
    started, before = time.monotonic(), within.store.takedowns()
    compute_rows = compute_map if step.stage.kind == "map" else compute_global
    written, computed, reused = compute_rows(step, work, inputs.tables, within, lease)
    if DATASET in step.tables:
        written = publish_dataset(step, written, inputs.tables, within.store)
    records = [record for table in written.values() for record in table.records]
    check_written(within.store, step.name, lease, before, records)
    seconds = round(time.monotonic() - started, 3)
    manifests = [
        within.store.put_version(
            replace(new_manifest(step, table, fragments, inputs.tables), seconds=seconds)
        )
        for table, fragments in written.items()
    ]
    committed = {
        m.table: Committed(m.version, work.keys[TableName(m.table)], inputs.lineage)
        for m in manifests
    }
    if step.stage.kind == "global":
        for table, version in committed.items():
            if written[TableName(table)].for_others:
                within.store.put_key(table, version.key, version.version)
    _note_used_work(step, work, within.store)
    lease.commit(committed)
    return _Outcome(committed, manifests, computed, reused)


def _note_used_work(step: Step, work: StepWork, store: Store) -> None:
    """Note the work tables without which a run with nothing to do would compute them again."""
    if work.used:
        put_used_memos(store, step.name, step.fingerprint, work.used)
