"""What a global stage may use besides its tables: workers, work tables and saved states."""

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
    """The workers of a global stage, and the work tables and states that it keeps in the store.

    The runner makes one for each step. A stage of kind `map` gets one only in its `units` function.

    Attributes:
        store: where tables are.
        parallel: the workers.
        work: name of the stage; its work tables are under `work/<name>` in the store.
        salt: part of every memo: the stage's name and version. Other versions find nothing here.
        prepare: called on a worker before a unit runs; it registers plug-ins there.
    """

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
        """Call a function on workers, once for each item, and return a work table for each.

        A work table that an earlier run finished, with the same function, label and content of
        arguments, is reused. A memo names the function, not its module, so that code may move.

        Args:
            label: says what is computed, in progress bars and memos.
            function: yields record batches; the measurements that it returns are the record's `stats`.
            items: for each work table its name and the arguments of the call.
            rows_per_file: rows of a file, if they are limited.
            batch_groups: each batch becomes one row group, which `Fragment.row_groups_between` can
                read alone.
            gpu: the function gets one more argument, `device`.

        Returns:
            The record of each work table, by the name of the item.
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
        result = compute(self.store, self.parallel, label, units)
        return {name: outputs[WORK] for name, outputs in result.records.items()}

    @property
    def table_dir(self) -> str:
        """The folder of the store with the records of work tables."""
        return f"work/{self.work}"

    @property
    def folder(self) -> str:
        """The folder of the store with the files of work tables."""
        return f"{self.table_dir}/data"

    def save_state(self, name: str, key: Any, batch: pa.RecordBatch) -> None:
        """Save a state from which a stopped run continues. It replaces the one saved before.

        The new state is complete before the old files are deleted, so a crash leaves one of the two.

        Args:
            name: the kind of state.
            key: tables and values that the work depends on; `load_state` must get the same ones.
            batch: the state.
        """
        before = self.load_state(name, key)
        writer = FragmentWriter(self.store, self.folder, name, None)
        writer.write(batch)
        self.store.put_record(writer.close(self.table_dir, self._memo(name, key), {}))
        if before is not None:
            self.store.delete(f.path for f in before.record.files)

    def load_state(self, name: str, key: Any) -> Fragment | None:
        """Return the state that `save_state` saved under this name and key, or None."""
        memo = self._memo(name, key)
        record = self.store.finished_records(self.table_dir, [memo]).get(memo)
        return None if record is None else Fragment(self.store, record)

    def _memo(self, name: str, key: Any) -> str:
        return digest([self.salt, name, content_of(key)])

    def delete_records(self, records: Iterable[FragmentRecord]) -> None:
        """Delete work tables that nothing will read again.

        The record goes first: a crash in between leaves files without a record, which nothing reads.
        """
        # Two work tables with the same content of arguments share a record.
        for record in {record.memo: record for record in records}.values():
            self.store.delete([f"{record.table_dir}/done/{record.memo}.json"])
            self.store.delete(f.path for f in record.files)
