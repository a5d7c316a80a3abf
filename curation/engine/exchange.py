"""Rows brought together by a key: one shuffle, after which each part is a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.engine.context import Context
from curation.engine.digest import digest
from curation.engine.fragment import Fragment
from curation.engine.manifest import FragmentRecord
from curation.engine.parallel import ShuffleJob
from curation.engine.runs import run_starts
from curation.engine.units import FILE_ROWS, WORK, Output, StageOutput, Unit, content_of, run_unit

Integers: TypeAlias = npt.NDArray[np.int64]

KEY = "key"
"""The column of what is read that says where a row goes: a number (uint64), or several in a list of
fixed size. Rows of one key meet in one part; a row of several goes to the part of each, once."""
MESSAGE_BYTES = 2**20
"""Bytes of a message at most, about: the engine holds some hundreds at once."""


class MapTask(NamedTuple):
    """What one task reads and sends: the tables that `function(**arguments)` yields."""

    function: Callable[..., Iterator[pa.Table]]
    arguments: Mapping[str, Any]


class ExchangeInput(NamedTuple):
    """Rows of one kind: their columns beside KEY, and what reads them."""

    schema: pa.Schema
    tasks: Sequence[MapTask]


@dataclass(frozen=True)
class Exchange:
    """What meets where, and what is made of it.

    `function` gets the rows of a part by the name of their input, as tables without KEY, in the order
    of readings, and `arguments`; with `pass_part` also `part`, the number of the part, and with `gpu`
    also `device`. It gives rows as any unit does. They are a work table a part, or go where `outputs`
    says for a part: fragments by name, of a table each, under whose names the function yields them.
    """

    label: str
    inputs: Mapping[str, ExchangeInput]
    function: Callable[..., StageOutput]
    parts: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    outputs: Callable[[int], Mapping[str, str]] | None = None
    pass_part: bool = False
    gpu: bool = False


def exchange(job: Exchange, context: Context) -> list[dict[str, FragmentRecord]]:
    """Return the records of each part, by output; parts that an earlier run has finished are found.

    Nothing is sent to those, so that a run that was stopped goes on with what is missing.
    """
    making = _PartUnits(job, context)
    units = [making.unit(part) for part in range(job.parts)]
    dirs = {o.table_dir for unit in units[:1] for o in unit.outputs.values()}
    memos = [o.memo for unit in units for o in unit.outputs.values()]
    found = {
        memo: r
        for place in dirs
        for memo, r in context.store.finished_records(place, memos).items()
    }
    missing = [
        n for n, u in enumerate(units) if any(o.memo not in found for o in u.outputs.values())
    ]
    records = {
        n: {name: found[o.memo] for name, o in unit.outputs.items()}
        for n, unit in enumerate(units)
        if n not in set(missing)
    }
    if missing:
        items = [
            (name, number, reading)
            for name, own in job.inputs.items()
            for number, reading in enumerate(own.tasks)
        ]
        send = partial(_send, parts=job.parts, wanted=frozenset(missing))
        shuffle = ShuffleJob(job.label, send, items, making.receive, missing, job.gpu)
        done = context.parallel.exchange(shuffle)
        records |= dict(zip(missing, done, strict=True))
    return [records[part] for part in range(job.parts)]


def exchange_tables(job: Exchange, context: Context) -> list[FragmentRecord]:
    """Return `exchange` where each part is one work table."""
    return [records[WORK] for records in exchange(job, context)]


def _send(
    item: tuple[str, int, MapTask], parts: int, wanted: frozenset[int]
) -> Iterator[tuple[int, Any]]:
    name, number, reading = item
    for table in reading.function(**reading.arguments):
        part, row = _parts_of_rows(table.column(KEY).combine_chunks(), parts)
        rows = table.drop_columns([KEY]).combine_chunks()
        at_once = max(1, MESSAGE_BYTES * len(rows) // max(1, rows.nbytes))
        for own, start, stop in _runs(part):
            if own not in wanted:
                continue
            for first in range(start, stop, at_once):
                piece = rows.take(pa.array(row[first : min(stop, first + at_once)]))
                yield own, (name, number, _serialise(piece))


def _parts_of_rows(keys: pa.Array, parts: int) -> tuple[Integers, Integers]:
    """Return the parts that rows go to, sorted, and which row goes there, in their order."""
    listed = pa.types.is_fixed_size_list(keys.type)
    several = keys.type.list_size if listed else 1
    flat = np.asarray(keys.flatten() if listed else keys, np.uint64)
    part = (flat % np.uint64(parts)).astype(np.int64)
    order = np.argsort(part, kind="stable")
    part, row = part[order], order // several
    first = run_starts(part, row)
    return part[first], row[first]


def _runs(values: Integers) -> Iterator[tuple[int, int, int]]:
    """Yield each of some sorted values with where it begins and ends."""
    found, start = np.unique(values, return_index=True)
    stop = np.append(start, len(values))[1:]
    yield from zip(found.tolist(), start.tolist(), stop.tolist(), strict=True)


def _serialise(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


class _PartUnits:
    """Makes units of parts; travels to the workers."""

    def __init__(self, job: Exchange, context: Context) -> None:
        self._label, self._function, self._arguments = job.label, job.function, job.arguments
        self._outputs, self._store = job.outputs, context.store
        self._pass_part, self._gpu, self._prepare = job.pass_part, job.gpu, context.prepare
        self._schemas = {name: own.schema for name, own in job.inputs.items()}
        self._work = context.table_dir, context.folder
        self._memo = digest(
            [context.salt, job.label, job.function.__qualname__, job.parts]
            + [content_of(job.arguments), {n: _input_content(own) for n, own in job.inputs.items()}]
        )

    def unit(self, part: int) -> Unit:
        """Return the unit of a part, without what it will be sent."""
        if self._outputs is None:
            table_dir, folder = self._work
            outputs = {WORK: Output("", table_dir, folder, digest([self._memo, part]))}
        else:
            outputs = {
                name: Output(
                    table,
                    f"tables/{table}",
                    f"tables/{table}/data",
                    digest([self._memo, part, name]),
                    FILE_ROWS,
                    name=name,
                )
                for name, table in self._outputs(part).items()
            }
        name = f"{self._label.replace(' ', '-')}-{part:06d}"
        return Unit(
            name, self._function, self._arguments, outputs, gpu=self._gpu, prepare=self._prepare
        )

    def receive(self, part: int, sent: list[tuple[str, int, bytes]]) -> dict[str, FragmentRecord]:
        """Compute a part from all that was sent to it."""
        # In the order of readings, whichever came first: the same rows give the same files.
        sent.sort(key=lambda own: own[1])
        tables = {
            name: _deserialise(schema, (packed for of, _, packed in sent if of == name))
            for name, schema in self._schemas.items()
        }
        sent.clear()
        unit = self.unit(part)
        number = {"part": part} if self._pass_part else {}
        arguments = {**unit.arguments, **tables, **number}
        return run_unit(self._store, replace(unit, arguments=arguments))


def _deserialise(schema: pa.Schema, messages: Iterable[bytes]) -> pa.Table:
    parts = [pa.ipc.open_stream(own).read_all() for own in messages]
    return pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()


def _input_content(given: ExchangeInput) -> list[Any]:
    # The columns too: of two inputs without readings only these differ.
    return [given.schema.to_string()] + [
        [r.function.__qualname__, content_of(r.arguments)] for r in given.tasks
    ]


def split_by_file(fragment: Fragment) -> list[Fragment]:
    """Return each file of a fragment as one of its own, for as many readers."""
    record = fragment.record
    return [
        Fragment(
            fragment.store,
            FragmentRecord(
                record.table_dir, record.name, record.memo, (entry,), record.counts, record.stats
            ),
        )
        for entry in record.files
    ]
