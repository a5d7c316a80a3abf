"""Runs one step: the only place where a stage meets the store.

A crash at any point leaves the committed tables as they were. The next run finds the finished units by
their memos and computes the rest.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from curation.engine.commits import gather_files, is_complete
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.digest import digest, file_sha256
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.libraries import library_versions
from curation.engine.manifest import FragmentRecord, Manifest, aggregate_stats, sum_counts
from curation.engine.parallel import Parallel
from curation.engine.params_base import StrictModel, fingerprint_params, manifest_params
from curation.engine.stage import Read
from curation.engine.store import DATASET, Store
from curation.engine.table import Table, open_table
from curation.engine.table_name import Family, TableName
from curation.engine.units import (
    FILE_ROWS,
    Output,
    StageOutput,
    Unit,
    compute,
    content_of,
    write_output,
)
from curation.flow import Step
from curation.media.encoders.compatibility import check_spaces
from curation.plugins import activation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepResult:
    """What one step did.

    Attributes:
        step: the step.
        computed: number of fragments that were computed.
        reused: number of fragments that earlier runs had computed.
        rows: number of rows of its tables.
        seconds: wall time.
    """

    step: Step
    computed: int
    reused: int
    rows: int
    seconds: float

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to compute."""
        return self.computed == 0


def run_step(step: Step, store: Store, parallel: Parallel) -> StepResult:
    """Bring the tables of a step up to date and commit them.

    Raises:
        StoreError: a table that the step reads is not committed or is damaged, or tables hold vectors
            of different encoders.
        ContractError: the stage yielded rows that break the contract of its table.
    """
    started = time.monotonic()
    tables: dict[str, Table] = {name: open_table(store, name) for name in step.inputs}
    check_spaces(step.name, tables)
    run = _run_map if step.stage.kind == "map" else _run_global
    computed, reused = run(step, tables, store, parallel)
    rows = sum(open_table(store, t).rows for t in step.tables)
    result = StepResult(step, computed, reused, rows, time.monotonic() - started)
    logger.info(
        "%s: %d fragments computed, %d reused, %d rows, %.1f s",
        step.name,
        computed,
        reused,
        rows,
        result.seconds,
    )
    return result


# -- map stages -----------------------------------------------------------------------------------


def _run_map(
    step: Step, tables: Mapping[str, Table], store: Store, parallel: Parallel
) -> tuple[int, int]:
    """Run a map stage; return the number of fragments computed and reused."""
    units = _map_units(step, tables, store, parallel)
    versions: dict[str, str] = {
        table: digest([step.name] + [[u.name, u.outputs[table].memo] for u in units])
        for table in step.tables
    }
    if all(is_complete(store, t, v) for t, v in versions.items()):
        for table, table_version in versions.items():
            store.set_current(table, table_version)
        return 0, len(units) * len(versions)
    if step.tables == (DATASET,):
        units = [_with_folder(u, f"{DATASET}/{versions[DATASET]}") for u in units]
    progress = step.stage.progress.load() if step.stage.progress else None
    result = compute(store, parallel, step.name, units, progress)
    for table, table_version in versions.items():
        records = tuple(result.records[u.name][table] for u in units)
        if table == DATASET:
            records = gather_files(store, f"{DATASET}/{table_version}", records)
        _commit(step, (table, table_version), records, tables, store)
    return result.computed, result.reused


def _map_units(
    step: Step, tables: Mapping[str, Table], store: Store, parallel: Parallel
) -> list[Unit]:
    """Return one unit for each fragment, or the units that the stage's `units` function names."""
    stage = step.stage
    table_arguments = _table_arguments(step, tables)
    if stage.units:
        context = _context(step, store, parallel)
        units = stage.units.load()(**table_arguments, params=step.params, context=context)
    else:
        units = _fragment_arguments(step, table_arguments)
    chains = stage.chains.load()(**table_arguments) if stage.chains else {}
    return [
        Unit(
            name=name,
            function=stage.function.load(),
            arguments={**arguments, "params": step.params},
            outputs={t: _output(step, t, arguments) for t in step.tables},
            chain=chains.get(name),
            gpu=stage.gpu,
            work_folder=stage.work_folder,
            only=partial(_params_of_members, step) if stage.only else None,
            prepare=activation(step.plugins),
        )
        for name, arguments in units.items()
    ]


def _params_of_members(step: Step, tables: Collection[str]) -> dict[str, Any]:
    """Return the arguments that compute only some members of a family."""
    assert step.stage.only is not None
    members = [str(TableName(table).member) for table in tables]
    return {"params": step.stage.only(step.params, members)}


def _table_arguments(step: Step, tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return the tables that a stage reads, by argument; for a family a mapping by member."""
    arguments: dict[str, Any] = {}
    for read in step.stage.reads:
        read_tables: dict[str, Table] = {name: tables[name] for name in step.reads[read.argument]}
        if isinstance(read.table, Family):
            arguments[read.argument] = read.table.members(read_tables)
        else:
            arguments[read.argument] = read_tables[read.table]
    return arguments


def _fragment_arguments(
    step: Step, table_arguments: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return by fragment the arguments of a map stage: its aligned fragments, and whole tables."""
    names = _first_table(step.stage.reads[0], table_arguments).fragments
    whole = {read.argument for read in step.stage.reads if read.whole}

    def argument_for(argument: str, name: str) -> Any:
        value = table_arguments[argument]
        if argument in whole:
            return value
        if isinstance(value, dict):
            return {member: table.fragments[name] for member, table in value.items()}
        return value.fragments[name]

    return {
        name: {argument: argument_for(argument, name) for argument in table_arguments}
        for name in names
    }


def _first_table(read: Read, table_arguments: Mapping[str, Any]) -> Table:
    value = table_arguments[read.argument]
    table: Table = next(iter(value.values())) if isinstance(value, dict) else value
    return table


def _output(step: Step, table: TableName, arguments: Mapping[str, Any]) -> Output:
    stage, params = step.stage, step.params
    if stage.only and table.member:
        params = stage.only(params, [table.member])
    memo = digest(
        [stage.name, *_version_terms(step, table, params)]
        + [fingerprint_params(params, file_sha256), content_of(arguments)]
    )
    limit = stage.rows_per_file(params) if stage.rows_per_file else None
    return Output(table, f"tables/{table}", f"tables/{table}/data", memo, limit)


def _version_terms(step: Step, table: TableName, params: StrictModel) -> list[Any]:
    """Return the versions that memos depend on: of the stage, the contract and registry members."""
    return [step.stage.version, contract(table).version, dict(step.stage.versions(params))]


def _with_folder(unit: Unit, folder: str) -> Unit:
    outputs = {t: replace(o, folder=folder) for t, o in unit.outputs.items()}
    return replace(unit, outputs=outputs)


# -- global stages --------------------------------------------------------------------------------


def _run_global(
    step: Step, tables: Mapping[str, Table], store: Store, parallel: Parallel
) -> tuple[int, int]:
    """Run a global stage; return the number of fragments computed and reused."""
    (table,) = step.tables
    table_version = digest(
        [step.name, *_version_terms(step, table, step.params)]
        + [fingerprint_params(step.params, file_sha256), content_of(tables)]
    )
    manifest = store.manifest(table, table_version)
    if manifest is not None and is_complete(store, table, table_version):
        store.set_current(table, table_version)
        return 0, len(manifest.fragments)
    function, context = step.stage.function.load(), _context(step, store, parallel)
    rows = function(**_table_arguments(step, tables), params=step.params, context=context)

    def open_writer(name: str) -> FragmentWriter:
        return FragmentWriter(store, f"tables/{table}/data", name, contract(table), FILE_ROWS)

    records: list[FragmentRecord] = []
    writers, stats = write_output(_take_records(rows, records), "all", open_writer)
    for name, writer in writers.items():
        records.append(writer.close(f"tables/{table}", digest([table_version, name]), {}))
    in_order = tuple(sorted(records, key=lambda record: record.name))
    _commit(step, (table, table_version), in_order, tables, store, stats)
    # A table without rows was computed too.
    return max(len(records), 1), 0


def _take_records(rows: StageOutput, records: list[FragmentRecord]) -> StageOutput:
    """Yield the batches of a stage, and add the records of fragments that workers wrote to a list."""
    while True:
        try:
            item = next(rows)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        if isinstance(item, FragmentRecord):
            records.append(item)
        else:
            yield item


# -- both -----------------------------------------------------------------------------------------


def _context(step: Step, store: Store, parallel: Parallel) -> Context:
    # Without the parameters: a work table that does not depend on them serves every version.
    salt = [step.name, step.stage.version]
    return Context(store, parallel, step.name, salt, activation(step.plugins))


def _commit(
    step: Step,
    target: tuple[str, str],
    records: tuple[FragmentRecord, ...],
    tables: Mapping[str, Table],
    store: Store,
    stats: Mapping[str, Any] | None = None,
) -> None:
    """Commit one version of a table.

    Args:
        step: the step that wrote it.
        target: name and version of the table.
        records: its fragments, in order.
        tables: what the step read.
        store: where the table is.
        stats: measurements of the table; by default those of its fragments together.
    """
    table, table_version = target
    if stats is None:
        stats = aggregate_stats(r.stats for r in records)
    store.commit(
        Manifest(
            table=table,
            version=table_version,
            stage=step.name,
            stage_version=step.stage.version,
            contract_version=contract(table).version,
            params=manifest_params(step.params),
            reads={name: t.manifest.version for name, t in tables.items()},
            libraries=library_versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            fragments=records,
            counts=sum_counts(r.counts for r in records),
            stats=dict(stats),
        )
    )
