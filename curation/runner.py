"""The only place where a stage meets the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.digest import digest, file_sha256
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import FragmentRecord, Manifest, aggregate_stats, sum_counts
from curation.engine.parallel import Parallel
from curation.engine.params_base import fingerprint_params, manifest_params
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

LIBRARIES = ("pyarrow", "numpy", "torch", "timm", "img2dataset", "pillow", "pyspark")


@dataclass(frozen=True)
class StepResult:
    """What one step did: fragments computed anew and reused, rows in the table, wall seconds."""

    step: Step
    computed: int
    reused: int
    rows: int
    seconds: float

    @property
    def up_to_date(self) -> bool:
        """Whether there was nothing to do."""
        return self.computed == 0


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that rows depend on."""
    found = {}
    for name in (*LIBRARIES, "faiss-cpu", "faiss-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run_step(step: Step, store: Store, parallel: Parallel) -> StepResult:
    """Bring the tables of a step up to date and commit them.

    Raises:
        StoreError: a table that the step reads is not committed or is damaged, or vectors of
            different encoders would meet.
        ContractError: the stage gave rows that break the contract of its table.
    """
    started = time.monotonic()
    tables: dict[str, Table] = {name: open_table(store, name) for name in step.inputs}
    check_spaces(step.name, tables)
    run = _run_map if step.stage.kind == "map" else _run_global
    computed, reused = run(step, tables, store, parallel)
    rows = sum(open_table(store, t).rows for t in step.tables)
    outcome = StepResult(step, computed, reused, rows, time.monotonic() - started)
    logger.info(
        "%s: %d fragments computed, %d reused, %d rows, %.1f s",
        step.name,
        computed,
        reused,
        rows,
        outcome.seconds,
    )
    return outcome


# -- map stages -----------------------------------------------------------------------------------


def _run_map(
    step: Step, tables: Mapping[str, Table], store: Store, parallel: Parallel
) -> tuple[int, int]:
    units = _map_units(step, tables, store, parallel)
    versions: dict[str, str] = {
        table: digest([step.name] + [[u.name, u.outputs[table].memo] for u in units])
        for table in step.tables
    }
    if all(_committed(store, t, v) for t, v in versions.items()):
        for table, found in versions.items():
            store.set_current(table, found)
        return 0, len(units) * len(versions)
    if step.tables == (DATASET,):
        units = [_write_into(u, f"{DATASET}/{versions[DATASET]}") for u in units]
    progress = step.stage.progress.load() if step.stage.progress else None
    done = compute(store, parallel, step.name, units, progress)
    for table, found in versions.items():
        records = tuple(done.records[u.name][table] for u in units)
        if table == DATASET:
            records = _move_into(store, f"{DATASET}/{found}", records)
        _commit(step, (table, found), records, tables, store)
    return done.computed, done.reused


def _map_units(
    step: Step, tables: Mapping[str, Table], store: Store, parallel: Parallel
) -> list[Unit]:
    """Return a unit for each fragment, or for what the stage's `units` makes of its tables."""
    stage = step.stage
    given = _tables_by_argument(step, tables)
    if stage.units:
        context = _context(step, store, parallel)
        arguments = stage.units.load()(**given, params=step.params, context=context)
    else:
        arguments = _arguments_by_fragment(step, given)
    chains = stage.chains.load()(**given) if stage.chains else {}
    return [
        Unit(
            name=name,
            function=stage.function.load(),
            arguments={**own, "params": step.params},
            outputs={t: _output(step, t, own) for t in step.tables},
            chain=chains.get(name),
            gpu=stage.gpu,
            work_folder=stage.work_folder,
            only=partial(_arguments_of_members, step) if stage.only else None,
            prepare=activation(step.plugins),
        )
        for name, own in arguments.items()
    ]


def _arguments_of_members(step: Step, tables: Collection[str]) -> dict[str, Any]:
    """Return the arguments that differ where only some members of a family are computed."""
    assert step.stage.only is not None
    members = [str(TableName(table).member) for table in tables]
    return {"params": step.stage.only(step.params, members)}


def _tables_by_argument(step: Step, tables: Mapping[str, Table]) -> dict[str, Any]:
    """Return the tables that a stage's function gets by argument; of a family a table a member."""
    given: dict[str, Any] = {}
    for read in step.stage.reads:
        own: dict[str, Table] = {name: tables[name] for name in step.reads[read.argument]}
        if isinstance(read.table, Family):
            given[read.argument] = read.table.members(own)
        else:
            given[read.argument] = own[read.table]
    return given


def _arguments_by_fragment(step: Step, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of each fragment: aligned fragments, and whole tables as they are."""
    names = _aligned(step.stage.reads[0], given).fragments
    whole = {read.argument for read in step.stage.reads if read.whole}

    def part(argument: str, name: str) -> Any:
        value = given[argument]
        if argument in whole:
            return value
        if isinstance(value, dict):
            return {member: table.fragments[name] for member, table in value.items()}
        return value.fragments[name]

    return {name: {argument: part(argument, name) for argument in given} for name in names}


def _aligned(read: Read, given: Mapping[str, Any]) -> Table:
    value = given[read.argument]
    table: Table = next(iter(value.values())) if isinstance(value, dict) else value
    return table


def _output(step: Step, table: TableName, own: Mapping[str, Any]) -> Output:
    stage, params = step.stage, step.params
    if stage.only and table.member:
        params = stage.only(params, [table.member])
    terms = contract(table)
    memo = digest(
        [stage.name, stage.version, terms.version, dict(stage.versions(params))]
        + [fingerprint_params(params, file_sha256), content_of(own)]
    )
    limit = stage.rows_per_file(params) if stage.rows_per_file else None
    return Output(table, f"tables/{table}", f"tables/{table}/data", memo, limit)


def _write_into(unit: Unit, folder: str) -> Unit:
    outputs = {t: replace(o, folder=folder) for t, o in unit.outputs.items()}
    return replace(unit, outputs=outputs)


def _move_into(
    store: Store, folder: str, records: tuple[FragmentRecord, ...]
) -> tuple[FragmentRecord, ...]:
    """Return the records with every file in `folder`, and nothing else in it.

    A dataset version is opened by path by tools that know no manifest.
    """
    placed = []
    for record in records:
        files = []
        for entry in record.files:
            target = f"{folder}/{entry.path.rsplit('/', 1)[1]}"
            if target != entry.path:
                store.copy(entry.path, target)
            files.append(replace(entry, path=target))
        placed.append(replace(record, files=tuple(files)))
    wanted = {f.path for r in placed for f in r.files}
    store.delete(p for p in store.sizes(folder) if p not in wanted)
    return tuple(placed)


# -- global stages --------------------------------------------------------------------------------


def _run_global(
    step: Step, tables: Mapping[str, Table], store: Store, parallel: Parallel
) -> tuple[int, int]:
    (table,) = step.tables
    terms = contract(table)
    found = digest(
        [step.name, step.stage.version, terms.version, dict(step.stage.versions(step.params))]
        + [fingerprint_params(step.params, file_sha256), content_of(tables)]
    )
    manifest = store.manifest(table, found)
    if manifest is not None and _committed(store, table, found):
        store.set_current(table, found)
        return 0, len(manifest.fragments)
    function, context = step.stage.function.load(), _context(step, store, parallel)
    rows = function(**_tables_by_argument(step, tables), params=step.params, context=context)

    def writer_of(part: str) -> FragmentWriter:
        return FragmentWriter(store, f"tables/{table}/data", part, terms, FILE_ROWS)

    records: list[FragmentRecord] = []
    writers, stats = write_output(_without_records(rows, records), "all", writer_of)
    for part, writer in writers.items():
        records.append(writer.close(f"tables/{table}", digest([found, part]), {}))
    in_order = tuple(sorted(records, key=lambda record: record.name))
    _commit(step, (table, found), in_order, tables, store, stats)
    # A table without rows was computed too.
    return max(len(records), 1), 0


def _without_records(rows: StageOutput, records: list[FragmentRecord]) -> StageOutput:
    """Pass rows on; fragments that workers have written are added to `records`."""
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
    # Work tables serve every version of a step whose function is the same.
    salt = [step.name, step.stage.version]
    return Context(store, parallel, step.name, salt, activation(step.plugins))


def _committed(store: Store, table: str, found: str) -> bool:
    """Whether a version is committed and all its files are there, in full size."""
    manifest = store.manifest(table, found)
    if manifest is None:
        return False
    folders: dict[str, dict[str, int]] = {}
    for entry in (f for r in manifest.fragments for f in r.files):
        folder = entry.path.rsplit("/", 1)[0]
        if folder not in folders:
            folders[folder] = store.sizes(folder)
        if folders[folder].get(entry.path) != entry.size:
            return False
    return True


def _commit(
    step: Step,
    made: tuple[str, str],
    records: tuple[FragmentRecord, ...],
    tables: Mapping[str, Table],
    store: Store,
    stats: Mapping[str, Any] | None = None,
) -> None:
    """Commit one table version; `made` is its name and version."""
    table, found = made
    store.commit(
        Manifest(
            table=table,
            version=found,
            stage=step.name,
            stage_version=step.stage.version,
            contract_version=contract(table).version,
            params=manifest_params(step.params),
            reads={name: t.manifest.version for name, t in tables.items()},
            libraries=library_versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            fragments=records,
            counts=sum_counts(r.counts for r in records),
            stats=dict(stats) if stats is not None else aggregate_stats(r.stats for r in records),
        )
    )
