"""Units of work: each is computed once, and later runs find its result by its memo.

The runner makes the units of map stages, `Context.compute` and `exchange` those of work tables. A unit
writes its files, then its completion records. A crash in between leaves files without a record, which
nothing reads, and the next run computes the unit anew.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from curation.engine.contract import contract
from curation.engine.device import task_device
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.params_base import StrictModel, fingerprint_params
from curation.engine.row_counts import count_yielded, counting
from curation.store.manifest import FragmentRecord
from curation.store.store import Store
from curation.store.work_folder import WorkFolder

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

WORK = ""
"""The name of the one output of a unit that writes a work table."""

FILE_ROWS = 10_000_000
"""Maximum rows of a file of a global table: several files can be read by as many workers."""

StageOutput = Generator[Any, None, dict[str, Any] | None]
"""What the function of a stage or a unit returns: a generator that yields record batches, or pairs of
the name of an output and a batch. Its return value is a dictionary of measurements, or None."""


@dataclass(frozen=True)
class Output:
    """One fragment that a unit writes.

    Attributes:
        table: the table whose contract the rows keep; empty for a work table.
        table_dir: folder of the store with the completion records.
        folder: folder of the store for the files.
        memo: digest of everything that decides the rows.
        rows_per_file: rows of a file, if they are limited.
        batch_groups: each batch becomes one row group.
        name: name of the fragment; by default that of the unit.
    """

    table: str
    table_dir: str
    folder: str
    memo: str
    rows_per_file: int | None = None
    batch_groups: bool = False
    name: str | None = None


class Chain(NamedTuple):
    """The chain that a unit belongs to: units of one chain run one after another, in one task.

    Attributes:
        phase: all chains of a phase end before the next phase starts.
        name: name of the chain within its phase.
    """

    phase: int
    name: str


class JointCall(NamedTuple):
    """How one call may compute a unit with one output together with others of its function.

    The function gets each argument of `by_unit` as a mapping by the name of the unit, and yields pairs
    of such a name and a batch.

    Attributes:
        bytes: of what the unit reads for itself, which the call holds.
        at_most: largest number of these bytes in one call; a larger unit has a call of its own.
        by_unit: the arguments that differ from unit to unit.
    """

    bytes: int
    at_most: int
    by_unit: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """One call of a function that writes one fragment or several.

    Attributes:
        name: name of the unit, and of the fragments that it writes.
        function: yields the rows; see `StageOutput`.
        arguments: its keyword arguments.
        outputs: the fragments that it writes, by the name under which it yields their batches. A unit
            with one output may yield batches alone.
        chain: units of one chain never run at the same time; None for no chain.
        gpu: the function gets one more argument, `device` (see `curation.engine.device`).
        work_folder: the function gets one more argument, `workdir` (see `WorkFolder`), in a folder of
            the store with this path; empty for none.
        attempt: what the names of its work folders begin with: the lease under which it runs.
        waits: the function gets one more argument, `waiting`, which it calls once it mostly waits for
            others: the next unit then starts beside it.
        only: returns the arguments that compute some of several outputs alone.
        prepare: called first, where the unit runs: it registers plug-ins.
        isolated: it never runs in the process of the run (see `Parallel.map`).
        joint_call: how one call computes it together with others; None if each unit has its call.
    """

    name: str
    function: Callable[..., StageOutput]
    arguments: Mapping[str, Any]
    outputs: Mapping[str, Output]
    chain: Chain | None = None
    gpu: bool = False
    work_folder: str = ""
    attempt: str = ""
    waits: bool = False
    only: Callable[[Collection[str]], Mapping[str, Any]] | None = None
    prepare: Callable[[], object] | None = None
    isolated: bool = False
    joint_call: JointCall | None = None


@runtime_checkable
class HasContent(Protocol):
    """An argument that says which part of it memos depend on."""

    @property
    def content(self) -> Any:
        """The part that memos depend on: a digest, or values that JSON can hold."""


@dataclass(frozen=True)
class OfMembers:
    """An argument of a stage that writes a family of tables, with a part for some of its members.

    The memo of a member's table depends on the part of this member alone.

    Attributes:
        parts: by member.
    """

    parts: Mapping[str, Any] = field(default_factory=dict)


def arguments_of_member(arguments: Mapping[str, Any], member: str | None) -> dict[str, Any]:
    """Return the arguments on which the table of a member depends."""
    kept = {}
    for name, value in arguments.items():
        if not isinstance(value, OfMembers):
            kept[name] = value
        elif member is not None and member in value.parts:
            kept[name] = value.parts[member]
    return kept


def content_of(value: Any) -> Any:
    """Return the part of an argument that memos depend on, as values that JSON can hold.

    For tables and fragments it is their content, for parameters the fields that decide rows, and for
    other dataclasses all of their fields.
    """
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
    if is_dataclass(value):
        return [content_of(vars(value)[each.name]) for each in fields(value)]
    return value


def write_output(
    rows: StageOutput, default: str, writer_of: Callable[[str], FragmentWriter]
) -> tuple[dict[str, FragmentWriter], dict[str, Any]]:
    """Write all batches that a stage yields.

    Args:
        rows: what the stage's function returned.
        default: the output of batches that are yielded without a name.
        writer_of: opens the writer of an output.

    Returns:
        The writers by output, still open, and the measurements of the stage.
    """
    writers: dict[str, FragmentWriter] = {}
    while True:
        try:
            item = next(rows)
        except StopIteration as stop:
            return writers, stop.value or {}
        output, batch = item if isinstance(item, tuple) else (default, item)
        if output not in writers:
            writers[output] = writer_of(output)
        writers[output].write(batch)
        count_yielded(batch)


def _open_writer(store: Store, unit: Unit, output: Output) -> FragmentWriter:
    return FragmentWriter(
        store,
        output.folder,
        output.name or unit.name,
        contract(output.table) if output.table else None,
        output.rows_per_file,
        output.batch_groups,
    )


def run_unit(
    store: Store, unit: Unit, waiting: Callable[[], None] = lambda: None
) -> dict[str, FragmentRecord]:
    """Compute a unit, write its fragments and put their completion records; runs on a worker.

    Args:
        store: where tables are.
        unit: what is computed.
        waiting: called once the unit mostly waits, if it `waits`.

    Returns:
        The record of each output.
    """
    if unit.prepare:
        unit.prepare()
    arguments = dict(unit.arguments)
    first = next(iter(unit.outputs))
    work = WorkFolder(store, unit.work_folder, f"{unit.attempt}-{uuid.uuid4().hex[:12]}")
    if unit.gpu:
        arguments["device"] = task_device()
    if unit.work_folder:
        arguments["workdir"] = work
    if unit.waits:
        arguments["waiting"] = waiting
    with counting(unit.name):
        writers, stats = write_output(
            unit.function(**arguments),
            first,
            lambda name: _open_writer(store, unit, unit.outputs[name]),
        )
    records = {}
    for name, output in unit.outputs.items():
        writer = writers.get(name) or _open_writer(store, unit, output)
        # A function with several outputs returns measurements by output.
        written = writer.close(output.table_dir, output.memo, stats.get(name, stats))
        records[name] = store.put_record(written)
    if unit.work_folder:
        # Not before the records are put: after a crash the next attempt needs the folder.
        work.delete()
    return records


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch without rows: yielded first, it gives a fragment without rows its columns."""
    return pa.RecordBatch.from_pylist([], schema=schema)
