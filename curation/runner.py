"""The only place where a stage meets the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from curation.digest import digest, file_sha256
from curation.flow import WHOLE_TABLES, Step
from curation.fragment import FragmentWriter, Table, open_table
from curation.parallel import Parallel
from curation.records import Manifest, Record, add_books, merge_stats
from curation.spaces import check_spaces
from curation.store import DATASET, Store
from curation.strict import fingerprinted
from curation.table import contract
from curation.units import FILE_ROWS, Context, Output, Rows, Unit, compute, content_of, drain

logger = logging.getLogger(__name__)

LIBRARIES = ("pyarrow", "numpy", "torch", "timm", "img2dataset", "pillow", "pyspark")


@dataclass(frozen=True)
class Outcome:
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


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that rows depend on."""
    found = {}
    for name in (*LIBRARIES, "faiss-cpu", "faiss-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run_step(step: Step, store: Store, parallel: Parallel) -> Outcome:
    """Bring the tables of a step up to date and commit them.

    Raises:
        StoreError: a table that the step reads is not committed or is damaged, or vectors of
            different encoders would meet.
        ContractError: the stage gave rows that break the contract of its table.
    """
    started = time.monotonic()
    tables = {t: open_table(store, t) for names in step.reads.values() for t in names}
    check_spaces(step.name, tables)
    run = _run_map if step.stage.kind == "map" else _run_global
    computed, reused = run(step, tables, store, parallel)
    rows = sum(open_table(store, t).rows for t in step.tables)
    outcome = Outcome(step, computed, reused, rows, time.monotonic() - started)
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
    versions = {
        table: digest([step.name] + [[u.name, u.outputs[table].memo] for u in units])
        for table in step.tables
    }
    if all(_committed(store, t, v) for t, v in versions.items()):
        for table, found in versions.items():
            store.point(table, found)
        return 0, len(units) * len(versions)
    if step.tables == (DATASET,):
        units = [_in_folder(u, f"{DATASET}/{versions[DATASET]}") for u in units]
    telling = getattr(import_module(step.stage.module), "telling", None)
    done = compute(store, parallel, step.name, units, telling)
    for table, found in versions.items():
        records = tuple(done.records[u.name][table] for u in units)
        if table == DATASET:
            records = _one_folder(store, f"{DATASET}/{found}", records)
        _commit(step, (table, found), records, tables, store)
    return done.computed, done.reused


def _map_units(
    step: Step, tables: Mapping[str, Table], store: Store, parallel: Parallel
) -> list[Unit]:
    """Return a unit a fragment, or what the stage's own `units` makes of its tables."""
    module = import_module(step.stage.module)
    function = getattr(module, step.name)
    given = {argument: _given(argument, names, tables) for argument, names in step.reads.items()}
    if hasattr(module, "units"):
        context = _context(step, store, parallel)
        arguments = module.units(**given, params=step.params, context=context)
    else:
        arguments = _by_fragment(given)
    chains = module.chains(**given) if hasattr(module, "chains") else {}
    return [
        Unit(
            name=name,
            function=function,
            arguments={**own, "params": step.params},
            outputs={t: _output(step, t, own) for t in step.tables},
            chain=chains.get(name),
        )
        for name, own in arguments.items()
    ]


def _given(argument: str, names: tuple[str, ...], tables: Mapping[str, Table]) -> Any:
    """Return a table, or for the family of embeddings the tables by encoder."""
    if argument == "embeddings":
        return {name.split(".", 1)[1]: tables[name] for name in names}
    return tables[names[0]]


def _by_fragment(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of each fragment: aligned fragments, and whole tables as they are."""

    def parts(argument: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {member: table.fragments for member, table in value.items()}
        return None if argument in WHOLE_TABLES else value.fragments

    def pick(argument: str, name: str) -> Any:
        found = fragments[argument]
        if found is None:
            return given[argument]
        if isinstance(given[argument], dict):
            return {member: own[name] for member, own in found.items()}
        return found[name]

    fragments = {argument: parts(argument, value) for argument, value in given.items()}
    first = next(iter(fragments.values()))
    names = next(iter(first.values())) if isinstance(next(iter(given.values())), dict) else first
    return {name: {argument: pick(argument, name) for argument in given} for name in names}


def _output(step: Step, table: str, own: Mapping[str, Any]) -> Output:
    params = step.params
    if len(step.tables) > 1 or table.startswith("embeddings."):
        params = params.only([table.split(".", 1)[1]])  # type: ignore[attr-defined]
    terms = contract(table)
    memo = digest(
        [step.name, step.stage.version, terms.version]
        + [fingerprinted(params, file_sha256), content_of(own)]
    )
    limit = getattr(params, "rows_per_file", None)
    return Output(table, f"tables/{table}", f"tables/{table}/data", memo, limit)


def _in_folder(unit: Unit, folder: str) -> Unit:
    outputs = {t: replace(o, folder=folder) for t, o in unit.outputs.items()}
    return replace(unit, outputs=outputs)


def _one_folder(store: Store, folder: str, records: tuple[Record, ...]) -> tuple[Record, ...]:
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
        [step.name, step.stage.version, terms.version]
        + [fingerprinted(step.params, file_sha256), content_of(tables)]
    )
    manifest = store.manifest(table, found)
    if manifest is not None and _committed(store, table, found):
        store.point(table, found)
        return 0, len(manifest.fragments)
    function = getattr(import_module(step.stage.module), step.name)
    given = {argument: _given(argument, names, tables) for argument, names in step.reads.items()}
    rows = function(**given, params=step.params, context=_context(step, store, parallel))

    def writer_of(part: str) -> FragmentWriter:
        return FragmentWriter(store, f"tables/{table}/data", part, terms, FILE_ROWS)

    records: list[Record] = []
    writers, stats = drain(_without_records(rows, records), "all", writer_of)
    for part, writer in writers.items():
        records.append(writer.close(f"tables/{table}", digest([found, part]), {}))
    in_order = tuple(sorted(records, key=lambda record: record.name))
    _commit(step, (table, found), in_order, tables, store, stats)
    # A table without rows was computed too.
    return max(len(records), 1), 0


def _without_records(rows: Rows, records: list[Record]) -> Rows:
    """Pass rows on; fragments that workers have written are added to `records`."""
    while True:
        try:
            item = next(rows)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        if isinstance(item, Record):
            records.append(item)
        else:
            yield item


# -- both -----------------------------------------------------------------------------------------


def _context(step: Step, store: Store, parallel: Parallel) -> Context:
    # Work tables serve every version of a step whose function is the same.
    return Context(store, parallel, step.name, [step.name, step.stage.version])


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
    records: tuple[Record, ...],
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
            params=fingerprinted(step.params),
            reads={name: t.manifest.version for name, t in tables.items()},
            libraries=libraries(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            fragments=records,
            books=add_books(r.books for r in records),
            stats=dict(stats) if stats is not None else merge_stats(r.stats for r in records),
        )
    )
