"""What a global stage may use beside its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.engine.digest import digest
from curation.engine.fragment import Fragment
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.manifest import FragmentRecord
from curation.engine.parallel import Parallel
from curation.engine.store import Store
from curation.engine.units import WORK, Output, StageOutput, Unit, compute, content_of

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


@dataclass(frozen=True)
class Context:
    """What a global stage may use beside its tables: workers, and a memory for what they computed."""

    store: Store
    parallel: Parallel
    work: str
    salt: Any
    prepare: Callable[[], object] | None = None

    def compute(
        self,
        label: str,
        function: Callable[..., StageOutput],
        items: Mapping[str, Mapping[str, Any]],
        rows_per_file: int | None = None,
        batch_groups: bool = False,
        gpu: bool = False,
    ) -> dict[str, FragmentRecord]:
        """Return a work table an item, computed on workers; finished ones survive a crash.

        With `batch_groups` each batch of rows is a row group, which
        `Fragment.row_groups_between` reads alone.
        With `gpu` the function gets one more argument, `device`. Memos name the function and `label`,
        not the module, so that code may move.
        """
        units = [
            Unit(
                name=name,
                function=function,
                arguments=arguments,
                outputs={
                    WORK: Output(
                        table="",
                        table_dir=self.table_dir,
                        folder=self.folder,
                        memo=digest(
                            [self.salt, label, function.__qualname__]
                            + [content_of(arguments), rows_per_file]
                        ),
                        rows_per_file=rows_per_file,
                        batch_groups=batch_groups,
                    )
                },
                gpu=gpu,
                prepare=self.prepare,
            )
            for name, arguments in items.items()
        ]
        found = compute(self.store, self.parallel, label, units)
        return {name: parts[WORK] for name, parts in found.records.items()}

    @property
    def table_dir(self) -> str:
        """Where records of work tables stand in the store."""
        return f"work/{self.work}"

    @property
    def folder(self) -> str:
        """Where files of work tables stand in the store."""
        return f"{self.table_dir}/data"

    def save_state(self, name: str, key: Any, batch: pa.RecordBatch) -> None:
        """Keep a state that a stopped run goes on from, in place of the one kept before.

        Args:
            name: what it is a state of.
            key: tables and values that the work depends on; a run with others does not find it.
            batch: the state.
        """
        before = self.load_state(name, key)
        writer = FragmentWriter(self.store, self.folder, name, None)
        writer.write(batch)
        self.store.put_record(writer.close(self.table_dir, self._key(name, key), {}))
        if before is not None:
            self.store.delete(f.path for f in before.record.files)

    def load_state(self, name: str, key: Any) -> Fragment | None:
        """Return what `save_state` kept, or None."""
        memo = self._key(name, key)
        record = self.store.finished_records(self.table_dir, [memo]).get(memo)
        return None if record is None else Fragment(self.store, record)

    def _key(self, name: str, key: Any) -> str:
        return digest([self.salt, name, content_of(key)])

    def delete_records(self, records: Iterable[FragmentRecord]) -> None:
        """Delete work tables that nothing will read again."""
        # Two names of the same work share its record.
        for record in {record.memo: record for record in records}.values():
            self.store.delete([f"{record.table_dir}/done/{record.memo}.json"])
            self.store.delete(f.path for f in record.files)
