"""Runs a global stage: one call that gets whole tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from curation.engine.contract import contract
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.params_base import fingerprint_params
from curation.engine.table import Table
from curation.engine.table_name import TableName
from curation.engine.units import (
    FILE_ROWS,
    StageOutput,
    content_of,
    write_output,
)
from curation.flow import Step
from curation.runner.work import (
    StepContext,
    StepWork,
    WrittenTable,
    stage_context,
    table_arguments,
    version_terms,
)
from curation.store.digest import digest, file_sha256
from curation.store.manifest import (
    FragmentRecord,
    Manifest,
)
from curation.store.step_log import Lease
from curation.store.store import Store
from curation.store.used_work import put_used_memos

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def global_work(step: Step, tables: Mapping[str, Table]) -> StepWork:
    (table,) = step.tables
    key = digest(
        [step.name, *version_terms(step, table, step.params)]
        + [fingerprint_params(step.params, file_sha256), content_of(tables)]
    )
    return StepWork({table: key})


def compute_global(
    step: Step, work: StepWork, tables: Mapping[str, Table], within: StepContext, lease: Lease
) -> tuple[dict[TableName, WrittenTable], int, int]:
    """Run a global stage; return its fragments, and how many were computed and reused."""
    ((table, key),) = work.keys.items()
    store = within.store
    earlier = None if within.stale else _earlier_version(store, table, key)
    if earlier is not None:
        return {table: WrittenTable(earlier.fragments, earlier.stats)}, 0, len(earlier.fragments)
    function, context = step.stage.function.load(), stage_context(step, within, lease)
    rows = function(**table_arguments(step, tables), params=step.params, context=context)

    def open_writer(name: str) -> FragmentWriter:
        return FragmentWriter(store, f"tables/{table}/data", name, contract(table), FILE_ROWS)

    records: list[FragmentRecord] = []
    writers, stats = write_output(_take_records(rows, records), "all", open_writer)
    for name, writer in writers.items():
        records.append(writer.close(f"tables/{table}", digest([key, name]), {}))
    if context.kept:
        put_used_memos(store, step.name, step.fingerprint, context.kept)
    in_order = tuple(sorted(records, key=_order(table, tables)))
    # A table without rows was computed too.
    table_written = WrittenTable(in_order, stats, for_others=not context.inherited)
    return {table: table_written}, max(len(records), 1), 0


def _order(table: TableName, tables: Mapping[str, Table]) -> Callable[[FragmentRecord], Any]:
    """Return by what the fragments of a table are ordered.

    Whoever reads two aligned tables as wholes gets the same rows in the same places.
    """
    aligned = [read for name, read in tables.items() if contract(name).aligned]
    if not aligned or not contract(table).aligned:
        return lambda record: record.name
    places = {name: place for place, name in enumerate(aligned[0].fragments)}
    return lambda record: places[record.name]


def _earlier_version(store: Store, table: str, key: str) -> Manifest | None:
    """Return the version that a step of another recipe wrote from the same tables and parameters."""
    version = store.version_for_key(table, key)
    manifest = None if version is None else store.manifest(table, version)
    return manifest if manifest is not None and store.is_complete(manifest) else None


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
