"""Units of work: computed at most once, wherever and whenever, and found again by their memo."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from curation.engine.contract import contract
from curation.engine.device import task_device
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import FragmentRecord
from curation.engine.parallel import Parallel
from curation.engine.params_base import StrictModel, fingerprint_params
from curation.engine.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


WORK = ""
"""The one part of a work table."""

FILE_ROWS = 10_000_000
"""Rows of a file of a table that a stage gives as a whole, so that many workers can read it."""

StageOutput = Generator[Any, None, dict[str, Any] | None]
"""What a stage gives: it yields record batches (or pairs of part and batch), returns measurements."""


@dataclass(frozen=True)
class Output:
    """Where a part of a unit's rows goes. `table` names the contract; empty for work tables.

    The rows are a fragment of the unit's name, or of `name`.
    """

    table: str
    table_dir: str
    folder: str
    memo: str
    rows_per_file: int | None = None
    batch_groups: bool = False
    name: str | None = None


class Chain(NamedTuple):
    """Units of one name are worked on one after the other, and phases too: for what must not meet."""

    phase: int
    name: str


@dataclass(frozen=True)
class Unit:
    """One call of a stage's function; `outputs` are by the part that it yields.

    With `gpu` the function gets one more argument, `device`: where it computes, see
    `curation.engine.device`. With `work_folder` it gets `workdir`: a folder for unfinished work. Where
    only some of several outputs are missing, `only` gives the arguments that compute these alone.
    `prepare` is called first: it makes plug-ins known where the unit runs.
    """

    name: str
    function: Callable[..., StageOutput]
    arguments: Mapping[str, Any]
    outputs: Mapping[str, Output]
    chain: Chain | None = None
    gpu: bool = False
    work_folder: bool = False
    only: Callable[[Collection[str]], Mapping[str, Any]] | None = None
    prepare: Callable[[], object] | None = None


@runtime_checkable
class HasContent(Protocol):
    """An argument that says what of it decides a memo."""

    @property
    def content(self) -> Any:
        """What memos depend on: a digest, or values of JSON."""


@dataclass(frozen=True)
class ExecutionOnly:
    """An argument that no memo depends on: it changes how rows are made, not which."""

    value: Any
    content: None = None


def content_of(value: Any) -> Any:
    """Return what of an argument decides a memo: the content of tables, the value of the rest."""
    if isinstance(value, HasContent):
        return value.content
    if isinstance(value, Mapping):
        return {str(k): content_of(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [content_of(v) for v in value]
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), sha256(value.tobytes()).hexdigest()]
    if isinstance(value, StrictModel):
        return fingerprint_params(value)
    return value


def write_output(
    rows: StageOutput, default: str, writer_of: Callable[[str], FragmentWriter]
) -> tuple[dict[str, FragmentWriter], dict[str, Any]]:
    """Write what a stage yields; return the open writers by part, and its measurements."""
    writers: dict[str, FragmentWriter] = {}
    while True:
        try:
            item = next(rows)
        except StopIteration as stop:
            return writers, stop.value or {}
        part, batch = item if isinstance(item, tuple) else (default, item)
        if part not in writers:
            writers[part] = writer_of(part)
        writers[part].write(batch)


def _open_writer(store: Store, name: str, output: Output) -> FragmentWriter:
    terms = contract(output.table) if output.table else None
    own = output.name or name
    return FragmentWriter(
        store, output.folder, own, terms, output.rows_per_file, output.batch_groups
    )


def workdir_of(unit: Unit) -> str:
    """Return the folder in the store in which a unit keeps what it has done so far."""
    first = next(iter(unit.outputs.values()))
    return f"work/{first.table}/{first.memo}"


def run_unit(store: Store, unit: Unit) -> dict[str, FragmentRecord]:
    """Compute a unit, write its rows and put its completion records; runs on a worker."""
    if unit.prepare:
        unit.prepare()
    arguments = dict(unit.arguments)
    first = next(iter(unit.outputs))
    workdir = workdir_of(unit)
    if unit.gpu:
        arguments["device"] = task_device()
    if unit.work_folder:
        arguments["workdir"] = store.address(workdir)
    rows = unit.function(**arguments)
    writers, stats = write_output(
        rows, first, lambda part: _open_writer(store, unit.name, unit.outputs[part])
    )
    records = {}
    for part, output in unit.outputs.items():
        writer = writers.get(part) or _open_writer(store, unit.name, output)
        # Measurements of one part of a family stand under its name.
        own = stats.get(part, stats)
        records[part] = writer.close(output.table_dir, output.memo, own)
        store.put_record(records[part])
    if unit.work_folder:
        # Only now: until the record is put, a crash still needs what is there.
        store.delete_folder(workdir)
    return records


def run_chain(store: Store, units: Sequence[Unit]) -> list[dict[str, FragmentRecord]]:
    """Compute units one after the other; of a chain that is begun anew only what is missing."""
    results = []
    for unit in units:
        done: dict[str, FragmentRecord] = {}
        if len(units) > 1:
            for part, output in unit.outputs.items():
                for record in store.finished_records(output.table_dir, [output.memo]).values():
                    done[part] = record
        results.append(done if len(done) == len(unit.outputs) else run_unit(store, unit))
    return results


def _phases(units: Sequence[Unit]) -> list[list[list[Unit]]]:
    """Return the chains of each phase; a unit without one is a chain of its own in the first."""
    phases: dict[int, dict[str, list[Unit]]] = {}
    for unit in units:
        phase, name = (
            (unit.chain.phase, f"chain {unit.chain.name}") if unit.chain else (0, unit.name)
        )
        phases.setdefault(phase, {}).setdefault(name, []).append(unit)
    return [list(phases[phase].values()) for phase in sorted(phases)]


@dataclass(frozen=True)
class ComputeResult:
    """Records by unit and part, with how many of them were found, not computed."""

    records: Mapping[str, Mapping[str, FragmentRecord]]
    reused: int
    computed: int


ProgressFunction = Callable[[Store, Sequence[Unit]], Callable[[], str]]
"""Given the units that will be computed, it returns a function that describes how far they are."""


def compute(
    store: Store,
    parallel: Parallel,
    label: str,
    units: Sequence[Unit],
    progress: ProgressFunction | None = None,
) -> ComputeResult:
    """Return the records of all units, computing the parts that no earlier run has finished."""
    memos: dict[str, list[str]] = {}
    for unit in units:
        for output in unit.outputs.values():
            memos.setdefault(output.table_dir, []).append(output.memo)
    found = {table_dir: store.finished_records(table_dir, m) for table_dir, m in memos.items()}
    records: dict[str, dict[str, FragmentRecord]] = {unit.name: {} for unit in units}
    missing = []
    for unit in units:
        lacking = {}
        for part, output in unit.outputs.items():
            record = found[output.table_dir].get(output.memo)
            if record is None:
                lacking[part] = output
            else:
                # The same rows may have been computed for a fragment of another name.
                records[unit.name][part] = replace(record, name=unit.name)
        if lacking:
            missing.append(_restricted(unit, lacking))
    note = progress(store, missing) if progress and missing else None
    gpu = any(unit.gpu for unit in missing)
    for chains in _phases(missing):
        results = parallel.map(label, partial(run_chain, store), chains, note, gpu)
        for chain, found_by in zip(chains, results, strict=True):
            for unit, result in zip(chain, found_by, strict=True):
                records[unit.name] |= result
    computed = sum(len(u.outputs) for u in missing)
    return ComputeResult(records, sum(len(u.outputs) for u in units) - computed, computed)


def _restricted(unit: Unit, outputs: Mapping[str, Output]) -> Unit:
    """Return the unit with a part of its outputs."""
    if len(outputs) == len(unit.outputs):
        return unit
    arguments = {**unit.arguments, **(unit.only(list(outputs)) if unit.only else {})}
    return replace(unit, outputs=outputs, arguments=arguments)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch without rows, so that an empty fragment still has its columns."""
    return pa.RecordBatch.from_pylist([], schema=schema)
