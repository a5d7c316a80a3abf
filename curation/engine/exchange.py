"""Brings rows together by a key: one shuffle, after which each part is a unit of work with a memo.

Global stages call `exchange` where rows of different fragments must meet, and one machine cannot hold
them all. A part that is finished is found by its memo, so a run that was stopped sends only what the
missing parts need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.context import Context
from curation.engine.parallel import ShuffleJob
from curation.engine.sorted_arrays import run_starts, runs, stable_order
from curation.engine.units import FILE_ROWS, WORK, Output, StageOutput, Unit, content_of, run_unit
from curation.store.digest import digest
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord

Integers: TypeAlias = npt.NDArray[np.int64]

KEY = "key"
"""The column that says where a row goes: a number (uint64), or a fixed-size list of several. Rows with
the same key go to the same part. A row with several keys goes once to the part of each."""
_ARGUMENTS = ""
"""In place of the name of an input, in a message with the arguments of a part."""
MESSAGE_BYTES, BYTES_AT_ONCE = 2**20, 2**27
"""Approximate maximum sizes of a message, and of those that Spark holds before it writes them."""
ROWS_PER_BATCH = 65_536


class MapTask(NamedTuple):
    """One task that reads and sends rows: the tables, with column KEY, that `function(**arguments)`
    yields."""

    function: Callable[..., Iterator[pa.Table]]
    arguments: Mapping[str, Any]


class ExchangeInput(NamedTuple):
    """Rows of one kind: their columns without KEY, and the tasks that read them."""

    schema: pa.Schema
    tasks: Sequence[MapTask]


@dataclass(frozen=True)
class Exchange:
    """Which rows meet by their keys, and the function that computes each part from them.

    Attributes:
        label: says what is computed, in progress bars and memos.
        inputs: the rows that meet, by the name of the argument that gets them.
        function: gets the rows of one part as one table for each input, without KEY and in the order of
            the tasks, and `arguments`. It yields batches and returns measurements as any unit does.
        parts: number of parts. A row goes to part `key % parts`.
        arguments: further arguments of `function`.
        outputs: for a part, the fragments that it writes: their names, each with its table. The
            function then yields pairs of such a name and a batch. Without it, each part is one work
            table.
        pass_part: `function` also gets `part`, the number of the part.
        gpu: `function` also gets `device`.
        part_arguments: arguments of `function` for each part, which are sent to this part alone; empty
            for none. What grows with the rows belongs here and not into `arguments`.
    """

    label: str
    inputs: Mapping[str, ExchangeInput]
    function: Callable[..., StageOutput]
    parts: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    outputs: Callable[[int], Mapping[str, str]] | None = None
    pass_part: bool = False
    gpu: bool = False
    part_arguments: Sequence[Mapping[str, Any]] = ()

    def arguments_of(self, part: int) -> Mapping[str, Any]:
        """Return the arguments that a part alone gets."""
        return self.part_arguments[part] if self.part_arguments else {}


def exchange(job: Exchange, context: Context) -> list[dict[str, FragmentRecord]]:
    """Compute the parts that no earlier run finished, and return the records of all parts.

    A part is finished when its completion records are in the store. Nothing is sent to finished parts,
    so a run that was stopped continues with those that are missing.

    Returns:
        The records of each part, by output (see `Exchange.outputs`).
    """
    part_units = _PartUnits(job, context)
    units = [part_units.unit(part, job.arguments_of(part)) for part in range(job.parts)]
    context.used.update(output.memo for unit in units for output in unit.outputs.values())
    finished = {} if context.stale.everything else _finished_records(units, context)
    missing = [
        part
        for part, unit in enumerate(units)
        if any(output.memo not in finished for output in unit.outputs.values())
    ]
    computed = _compute_parts(job, part_units, missing, context) if missing else {}
    return [
        computed[part]
        if part in computed
        else {name: finished[output.memo] for name, output in unit.outputs.items()}
        for part, unit in enumerate(units)
    ]


def exchange_tables(job: Exchange, context: Context) -> list[Fragment]:
    """Return the work table of each part, for an exchange without `outputs`. See `exchange`."""
    return [Fragment(context.store, records[WORK]) for records in exchange(job, context)]


def exchange_records(job: Exchange, context: Context) -> Iterator[FragmentRecord]:
    """Yield the records of all `outputs` of an exchange, part after part. See `exchange`."""
    for records in exchange(job, context):
        yield from records.values()


def _finished_records(units: Sequence[Unit], context: Context) -> dict[str, FragmentRecord]:
    """Return the completion records of units by memo, as far as they are in the store."""
    memos: dict[str, list[str]] = {}
    for unit in units:
        for output in unit.outputs.values():
            memos.setdefault(output.table_dir, []).append(output.memo)
    return {
        memo: record
        for table_dir, wanted in memos.items()
        for memo, record in context.store.finished_records(table_dir, wanted).items()
    }


def _compute_parts(
    job: Exchange, part_units: _PartUnits, missing: list[int], context: Context
) -> dict[int, dict[str, FragmentRecord]]:
    items: list[tuple[str, int, Any]] = [
        (name, number, task)
        for name, rows in job.inputs.items()
        for number, task in enumerate(rows.tasks)
    ]
    if job.part_arguments:
        items += [(_ARGUMENTS, part, job.arguments_of(part)) for part in missing]
    send = partial(_send, parts=job.parts, wanted=frozenset(missing))
    shuffle = ShuffleJob(job.label, send, items, part_units.receive, missing, job.gpu)
    return dict(zip(missing, context.parallel.exchange(shuffle), strict=True))


def _send(
    item: tuple[str, int, Any], parts: int, wanted: frozenset[int]
) -> Iterator[tuple[int, Any]]:
    """Yield for the rows of one task the part they go to, and (input, number of the task, rows).

    Args:
        item: (input, number of the task, task), or (_ARGUMENTS, part, arguments of the part).
        parts: number of parts.
        wanted: the parts that are computed.
    """
    name, number, task = item
    if name == _ARGUMENTS:
        yield number, item
        return
    message_bytes = _message_bytes(parts)
    for table in task.function(**task.arguments):
        part_of_row, row = _parts_of_rows(table.column(KEY).combine_chunks(), parts)
        rows = table.drop_columns([KEY]).combine_chunks()
        rows_per_message = max(1, message_bytes * len(rows) // max(1, rows.nbytes))
        for part, start, stop in runs(part_of_row):
            if part not in wanted:
                continue
            for first in range(start, stop, rows_per_message):
                last = min(stop, first + rows_per_message)
                yield part, (name, number, _serialise(rows.take(pa.array(row[first:last]))))


def _message_bytes(parts: int) -> int:
    """Return the approximate maximum size of a message to one of some parts.

    PySpark writes messages once it has ten for each part, or a thousand.
    """
    return min(MESSAGE_BYTES, BYTES_AT_ONCE // min(10 * parts, 1000))


def _parts_of_rows(keys: pa.Array, parts: int) -> tuple[Integers, Integers]:
    """Return the parts that rows go to, in order, and the row that goes there, (m,) each.

    A row with several keys is there once for each different part.
    """
    is_list = pa.types.is_fixed_size_list(keys.type)
    keys_per_row = keys.type.list_size if is_list else 1
    flat = np.asarray(keys.flatten() if is_list else keys, np.uint64)
    part = (flat % np.uint64(parts)).astype(np.int64)
    order = stable_order(part)
    part, row = part[order], order // keys_per_row
    first = run_starts(part, row)
    return part[first], row[first]


def _serialise(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    message: bytes = sink.getvalue().to_pybytes()
    return message


def _deserialise(schema: pa.Schema, messages: Iterable[bytes]) -> pa.Table:
    tables = [pa.ipc.open_stream(message).read_all() for message in messages]
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()


class _PartUnits:
    """Makes the unit of each part of an exchange. It is sent to the workers, so it holds no inputs."""

    def __init__(self, job: Exchange, context: Context) -> None:
        self._label, self._function, self._arguments = job.label, job.function, job.arguments
        self._outputs, self._store = job.outputs, context.store
        self._pass_part, self._gpu, self._prepare = job.pass_part, job.gpu, context.prepare
        self._schemas = {name: rows.schema for name, rows in job.inputs.items()}
        self._work = context.table_dir, context.folder
        self._memo = digest(
            [context.salt, job.label, job.function.__qualname__, job.parts]
            + [content_of(job.arguments), {n: _input_content(r) for n, r in job.inputs.items()}]
        )

    def unit(self, part: int, of_part: Mapping[str, Any]) -> Unit:
        """Return the unit of a part, without the rows that will be sent to it.

        Args:
            part: its number.
            of_part: the arguments that it alone gets.
        """
        content = [self._memo, part, *([content_of(of_part)] if of_part else [])]
        if self._outputs is None:
            table_dir, folder = self._work
            outputs = {WORK: Output("", table_dir, folder, digest(content))}
        else:
            outputs = {
                name: Output(
                    table,
                    f"tables/{table}",
                    f"tables/{table}/data",
                    digest([*content, name]),
                    FILE_ROWS,
                    name=name,
                )
                for name, table in self._outputs(part).items()
            }
        name = f"{self._label.replace(' ', '-')}-{part:06d}"
        arguments = {**self._arguments, **of_part}
        return Unit(name, self._function, arguments, outputs, gpu=self._gpu, prepare=self._prepare)

    def receive(self, part: int, messages: list[tuple[str, int, Any]]) -> dict[str, FragmentRecord]:
        """Compute a part from all messages that were sent to it; runs on a worker."""
        # In the order of tasks, whichever arrived first: the same rows give the same files.
        messages.sort(key=lambda message: message[1])
        tables = {
            name: _deserialise(schema, (rows for source, _, rows in messages if source == name))
            for name, schema in self._schemas.items()
        }
        of_part: Mapping[str, Any] = next(
            (named for name, _, named in messages if name == _ARGUMENTS), {}
        )
        messages.clear()
        unit = self.unit(part, of_part)
        number = {"part": part} if self._pass_part else {}
        arguments = {**unit.arguments, **tables, **number}
        return run_unit(self._store, replace(unit, arguments=arguments))


def _input_content(rows: ExchangeInput) -> list[Any]:
    """Return the part of a memo that says what is read."""
    # The columns count too: two inputs without tasks differ in nothing else.
    return [rows.schema.to_string()] + [
        [task.function.__qualname__, content_of(task.arguments)] for task in rows.tasks
    ]


def split_by_file(fragments: Iterable[Fragment]) -> list[Fragment]:
    """Return one fragment for each file of some fragments, so that as many tasks can read them."""
    return [
        replace(fragment, record=replace(fragment.record, files=(file,)))
        for fragment in fragments
        for file in fragment.record.files
    ]


def group_bounds(groups: Iterable[Sized]) -> Integers:
    """Return the number of the first fragment of each group, and after them the number of fragments."""
    return np.cumsum([0, *map(len, groups)])


def group_keys(rows: pa.Table | pa.RecordBatch, bounds: Integers) -> pa.Array:
    """Return keys that send rows to the group of their fragment.

    Args:
        rows: with the column `fragment`, the number of a fragment.
        bounds: number of the first fragment of each group; as `group_bounds`.
    """
    group = np.searchsorted(bounds, rows.column("fragment").to_numpy(), "right") - 1
    return pa.array(group.astype(np.uint64))


def read_by_group(rows: Fragment, bounds: Integers) -> Iterator[pa.Table]:
    """Yield the rows of a work table, keyed by the group of their fragment.

    Args:
        rows: the work table, with the column `fragment`.
        bounds: as `group_keys`.
    """
    for batch in rows.batches(rows=ROWS_PER_BATCH):
        yield pa.Table.from_batches([batch]).append_column(KEY, group_keys(batch, bounds))
