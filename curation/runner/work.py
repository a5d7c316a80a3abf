"""What a step has to do, what it wrote, and what map and global stages have in common."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from curation.activity import utc_now
from curation.engine.compute import NOTHING_STALE, Stale
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.parallel import Parallel
from curation.engine.params_base import StrictModel, manifest_params
from curation.engine.table import Table
from curation.engine.table_name import Family, TableName
from curation.engine.units import Unit
from curation.flow import Step
from curation.plugins import activation
from curation.store.dataset_files import forget_staged, publish
from curation.store.digest import digest
from curation.store.manifest import FragmentRecord, Manifest, sum_counts, version_of
from curation.store.run_log import Run
from curation.store.step_log import Lease, Waiting
from curation.store.store import DATASET, Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class StepContext:
    """Where and for whom a step runs.

    Attributes:
        store: where tables are.
        parallel: the workers.
        run: the run that it belongs to.
        waiting: what to do while another run works on the same step.
        stale: what the step computes again.
    """

    store: Store
    parallel: Parallel
    run: Run
    waiting: Waiting = field(default_factory=Waiting)
    stale: Stale = NOTHING_STALE


@dataclass(frozen=True)
class StepWork:
    """What a step has to do.

    Attributes:
        keys: digest of everything that decides the rows, by table.
        units: those of a map stage.
        used: memos of the work tables from which the units follow.
        measured: measurements of the whole table of a map stage.
    """

    keys: Mapping[TableName, str]
    units: Sequence[Unit] = ()
    used: Collection[str] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)


class WrittenTable(NamedTuple):
    """The fragments of a table, in order, and its measurements.

    Attributes:
        records: the fragments.
        stats: the measurements.
        for_others: whether tables and parameters alone decided the rows, so that a step of another
            recipe would write the same.
    """

    records: tuple[FragmentRecord, ...]
    stats: Mapping[str, Any]
    for_others: bool = True


def table_arguments(step: Step, tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return the tables that a stage reads, by argument; for a family a mapping by member."""
    arguments: dict[str, Any] = {}
    for read in step.stage.reads:
        read_tables: dict[str, Table] = {name: tables[name] for name in step.reads[read.argument]}
        if isinstance(read.table, Family):
            arguments[read.argument] = read.table.members(read_tables)
        else:
            arguments[read.argument] = read_tables[read.table]
    return arguments


def map_key(
    stage: str, fragments: Iterable[tuple[str, str]], measured: Mapping[str, Any] | None = None
) -> str:
    """Return the digest of everything that decides the rows of a table of a map stage.

    Args:
        stage: name of the stage.
        fragments: the name and the memo of each fragment, in order.
        measured: measurements of the whole table.
    """
    more = [dict(measured)] if measured else []
    return digest([stage, *([name, memo] for name, memo in fragments), *more])


def version_terms(step: Step, table: TableName, params: StrictModel) -> list[Any]:
    """Return the versions that memos depend on: of the stage, the contract and registry members."""
    return [step.stage.version, contract(table).version, dict(step.stage.versions(params))]


def stage_context(step: Step, within: StepContext, lease: Lease | None = None) -> Context:
    """Return what a stage may use; without a lease it must delete nothing."""
    # Without the parameters: a work table that does not depend on them serves every version.
    salt = [step.name, step.stage.version]
    return Context(
        within.store,
        within.parallel,
        step.name,
        salt,
        activation(step.plugins),
        step.fingerprint,
        None if lease is None else lease.check,
        stale=within.stale,
        isolated=step.stage.decodes,
    )


def new_manifest(
    step: Step, table: TableName, written: WrittenTable, tables: Mapping[str, Table]
) -> Manifest:
    """Return the manifest of a table that a step wrote.

    Args:
        step: the step.
        table: name of the table.
        written: its rows.
        tables: what the step read.
    """
    manifest = Manifest(
        table=table,
        version="",
        stage=step.name,
        stage_version=step.stage.version,
        contract_version=contract(table).version,
        params=manifest_params(step.params),
        reads={name: t.manifest.version for name, t in tables.items()},
        created=utc_now(),
        fragments=written.records,
        counts=sum_counts(r.counts for r in written.records),
        stats=dict(written.stats),
    )
    return replace(manifest, version=version_of(manifest))


def publish_dataset(
    step: Step,
    written: Mapping[TableName, WrittenTable],
    tables: Mapping[str, Table],
    store: Store,
) -> dict[TableName, WrittenTable]:
    """Bring the files of the dataset together in the folder of their version.

    Args:
        step: the step that wrote it.
        written: its tables.
        tables: what it read.
        store: where they are.

    Returns:
        The tables; the records of the dataset name the files in the folder.
    """
    dataset = TableName(DATASET)
    staged = written[dataset]
    version = new_manifest(step, dataset, staged, tables).version
    published = publish(store, version, staged.records)
    forget_staged(store, staged.records, published)
    return {**written, dataset: staged._replace(records=published)}
