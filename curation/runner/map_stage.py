"""Runs a map stage: one unit for each fragment, or as the stage says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from curation.engine.compute import Earlier, compute
from curation.engine.context import Context
from curation.engine.params_base import fingerprint_params
from curation.engine.stage import Read, Stage
from curation.engine.table import Table
from curation.engine.table_name import TableName
from curation.engine.units import JointCall, Output, Unit, arguments_of_member, content_of
from curation.flow import Step
from curation.plugins import activation
from curation.runner.work import (
    StepContext,
    StepWork,
    WrittenTable,
    map_key,
    stage_context,
    table_arguments,
    version_terms,
)
from curation.store.digest import digest, file_sha256
from curation.store.manifest import (
    FragmentRecord,
    aggregate_stats,
)
from curation.store.step_log import Lease
from curation.store.work_folder import delete_work_folders

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def map_work(step: Step, tables: Mapping[str, Table], within: StepContext) -> StepWork:
    context = stage_context(step, within)
    units = _map_units(step, tables, context)
    keys = {
        table: map_key(
            step.name, ((u.name, u.outputs[table].memo) for u in units), context.measured
        )
        for table in step.tables
    }
    return StepWork(keys, units, context.used | context.kept, context.measured)


def compute_map(
    step: Step, work: StepWork, tables: Mapping[str, Table], within: StepContext, lease: Lease
) -> tuple[dict[TableName, WrittenTable], int, int]:
    """Run a map stage; return its fragments by table, and how many were computed and reused."""
    store = within.store
    units = [replace(unit, attempt=lease.token) for unit in work.units]
    earlier = Earlier(_known_records(step, units, stage_context(step, within)), within.stale)
    progress = step.stage.progress.load() if step.stage.progress else None
    result = compute(store, within.parallel, step.name, units, progress, earlier)
    written = {}
    for table in step.tables:
        of_units = (result.records[unit.name][table] for unit in units)
        # One without a file has no rows and no columns: no stage can read it.
        records = tuple(record for record in of_units if record.files)
        stats = aggregate_stats(r.stats for r in records) | dict(work.measured)
        written[table] = WrittenTable(records, stats)
    if step.stage.work_folder:
        delete_work_folders(store, (unit.work_folder for unit in units), lease.token)
    return written, result.computed, result.reused


def _known_records(
    step: Step, units: Sequence[Unit], context: Context
) -> dict[str, FragmentRecord]:
    """Return records of earlier versions by memo, which are faster to read than single records."""
    known: dict[str, FragmentRecord] = {}
    for table in step.tables:
        wanted = {unit.outputs[table].memo for unit in units}
        for manifest in context.earlier_versions(table):
            known |= {r.memo: r for r in manifest.fragments if r.memo in wanted}
            if wanted <= known.keys():
                break
    return known


def _map_units(step: Step, tables: Mapping[str, Table], context: Context) -> list[Unit]:
    """Return one unit for each fragment, or the units that the stage's `units` function names."""
    stage = step.stage
    table_args = table_arguments(step, tables)
    if stage.units:
        units = stage.units.load()(**table_args, params=step.params, context=context)
    else:
        units = _fragment_arguments(step, table_args)
    chains = stage.chains.load()(**table_args) if stage.chains else {}
    prepare = activation(step.plugins)
    only = partial(_params_of_members, step) if stage.only else None
    at_most = (
        stage.joint_bytes.load()(**table_args, params=step.params) if stage.joint_bytes else None
    )
    templates = [_output_template(step, table) for table in step.tables]
    made = []
    for name, arguments in units.items():
        outputs: dict[str, Output] = {
            t.table: t.output(_content_for(arguments, t.table)) for t in templates
        }
        made.append(
            Unit(
                name=name,
                # Most runs compute few stages, so none is imported before its first unit runs.
                function=stage.function,
                arguments={**arguments, "params": step.params},
                outputs=outputs,
                chain=chains.get(name),
                gpu=stage.gpu,
                work_folder=_work_folder(stage, outputs),
                waits=stage.waits,
                only=only,
                prepare=prepare,
                isolated=stage.decodes,
                joint_call=None if at_most is None else _joint_call(stage, arguments, at_most),
            )
        )
    return made


def _joint_call(stage: Stage[Any], arguments: Mapping[str, Any], at_most: int) -> JointCall:
    """Return how a unit is computed together with others, by the sizes of the files that it reads."""
    by_unit = tuple(read.argument for read in stage.reads if not read.whole)
    size = 0
    for name in by_unit:
        value = arguments[name]
        for fragment in value.values() if isinstance(value, Mapping) else (value,):
            size += sum(file.size for file in fragment.record.files)
    return JointCall(size, at_most, by_unit)


def _content_for(arguments: Mapping[str, Any], table: TableName) -> Any:
    return content_of(arguments_of_member(arguments, table.member))


def _params_of_members(step: Step, tables: Collection[str]) -> dict[str, Any]:
    """Return the arguments that compute only some members of a family."""
    assert step.stage.only is not None
    members = [str(TableName(table).member) for table in tables]
    return {"params": step.stage.only(step.params, members)}


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


class _OutputTemplate(NamedTuple):
    """What the fragments of a table have in common: the terms of their memos, and rows of a file."""

    table: TableName
    terms: list[Any]
    rows_per_file: int | None

    def output(self, content: Any) -> Output:
        """Return the fragment that is made from arguments with this content."""
        memo, table = digest([*self.terms, content]), self.table
        return Output(table, f"tables/{table}", f"tables/{table}/data", memo, self.rows_per_file)


def _output_template(step: Step, table: TableName) -> _OutputTemplate:
    stage, params = step.stage, step.params
    if stage.only and table.member:
        params = stage.only(params, [table.member])
    terms = [
        stage.name,
        *version_terms(step, table, params),
        fingerprint_params(params, file_sha256),
    ]
    limit = stage.rows_per_file(params) if stage.rows_per_file else None
    return _OutputTemplate(table, terms, limit)


def _work_folder(stage: Stage[Any], outputs: Mapping[str, Output]) -> str:
    """Return the path of the folder of a unit for unfinished work; empty if it has none."""
    if not stage.work_folder:
        return ""
    table, output = next(iter(outputs.items()))
    return f"work/{table}/{output.memo}"
