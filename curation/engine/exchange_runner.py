"""Runs exchanges on workers, or in memory: a stage is written once, for many parts or for one.

With few rows there is one part, which is computed where the stage runs, and nothing is stored. With
many rows, parts are units of work on workers (see `exchange.py`). The functions are the same, and so
are the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from curation.engine.context import Context
from curation.engine.exchange import KEY, Exchange, ExchangeInput, exchange_tables
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment


class WorkTable(Protocol):
    """The result of a part: rows, and the measurements of the function that computed them."""

    @property
    def stats(self) -> Mapping[str, Any]:
        """The measurements."""

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows, with all columns or the named ones."""

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order, at most `rows` at a time."""


@dataclass(frozen=True)
class MemoryTable:
    """A work table in memory."""

    table: pa.Table
    stats: Mapping[str, Any]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows. See `WorkTable.read`."""
        return self.table if columns is None else self.table.select(list(columns))

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = 1024
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order. See `WorkTable.batches`."""
        yield from self.read(columns).to_batches(max_chunksize=rows)


class ExchangeRunner(Protocol):
    """Computes the parts of exchanges."""

    def exchange(self, job: Exchange) -> Sequence[WorkTable]:
        """Return the work table of each part of an exchange without `outputs`."""

    def compute(
        self,
        label: str,
        function: Callable[..., StageOutput],
        arguments: Sequence[Mapping[str, Any]],
    ) -> Sequence[WorkTable]:
        """Call a function once for each of some arguments, and return a work table for each."""

    def keep(self, label: str, rows: pa.RecordBatch) -> WorkTable:
        """Return a work table of rows that are made here, and that every task reads."""

    def delete(self) -> None:
        """Delete all work tables, once nothing will read them again."""


@dataclass(frozen=True)
class OnWorkers:
    """Runs exchanges on workers; work tables are in the store.

    Attributes:
        context: a private one (`Context.private`), so that work tables may be deleted.
    """

    context: Context
    _tables: list[Fragment] = field(default_factory=list, compare=False)

    def exchange(self, job: Exchange) -> list[Fragment]:
        """Return the work table of each part. See `ExchangeRunner.exchange`."""
        tables = exchange_tables(job, self.context)
        self._tables.extend(tables)
        return tables

    def compute(
        self,
        label: str,
        function: Callable[..., StageOutput],
        arguments: Sequence[Mapping[str, Any]],
    ) -> list[Fragment]:
        """Return a work table for each of some arguments. See `ExchangeRunner.compute`."""
        name = label.replace(" ", "-")
        items = {f"{name}-{number:06d}": named for number, named in enumerate(arguments)}
        tables = list(self.context.compute(label, function, items).values())
        self._tables.extend(tables)
        return tables

    def keep(self, label: str, rows: pa.RecordBatch) -> Fragment:
        """Return a work table of some rows. See `ExchangeRunner.keep`."""
        kept = self.context.keep_rows(label, rows)
        self._tables.append(kept)
        return kept

    def delete(self) -> None:
        """Delete all work tables. See `ExchangeRunner.delete`."""
        self.context.delete_tables(self._tables)
        self._tables.clear()


class InMemory:
    """Runs exchanges of one part where it is called."""

    def exchange(self, job: Exchange) -> list[MemoryTable]:
        """Return the work table of the one part. See `ExchangeRunner.exchange`.

        Raises:
            ValueError: there are several parts.
        """
        if job.parts != 1:
            raise ValueError(f"{job.label}: {job.parts} parts; in memory there is only one")
        rows = {name: _read(source) for name, source in job.inputs.items()}
        part = {"part": 0} if job.pass_part else {}
        arguments = {**job.arguments, **job.arguments_of(0), **rows, **part}
        return [_collect(job.function(**arguments))]

    def compute(
        self,
        label: str,
        function: Callable[..., StageOutput],
        arguments: Sequence[Mapping[str, Any]],
    ) -> list[MemoryTable]:
        """Return a work table for each of some arguments. See `ExchangeRunner.compute`."""
        return [_collect(function(**named)) for named in arguments]

    def keep(self, label: str, rows: pa.RecordBatch) -> MemoryTable:
        """Return the rows. See `ExchangeRunner.keep`."""
        return MemoryTable(pa.Table.from_batches([rows]), {})

    def delete(self) -> None:
        """Do nothing: nothing was stored."""


def _read(source: ExchangeInput) -> pa.Table:
    tables = [
        table.drop_columns([KEY])
        for task in source.tasks
        for table in task.function(**task.arguments)
    ]
    return pa.concat_tables([source.schema.empty_table(), *tables]).combine_chunks()


def _collect(rows: StageOutput) -> MemoryTable:
    batches = []
    while True:
        try:
            batches.append(next(rows))
        except StopIteration as stop:
            return MemoryTable(pa.Table.from_batches(batches).combine_chunks(), stop.value or {})
