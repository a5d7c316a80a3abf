"""What a global stage may use besides its tables: workers, work tables and saved states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curation.engine.compute import NOTHING_STALE, Earlier, Stale, compute
from curation.engine.fragment_writer import FragmentWriter
from curation.engine.parallel import Parallel
from curation.engine.units import WORK, Output, StageOutput, Unit, content_of
from curation.store.digest import digest
from curation.store.fragment import Fragment
from curation.store.manifest import FragmentRecord, Manifest, record_path
from curation.store.step_log import StepLog
from curation.store.store import Store
from curation.store.used_work import SHARED

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

EARLIER_VERSIONS = 8
"""Versions of a table in which rows are looked for that can be reused."""


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
        step: fingerprint of the step, which one run at a time works on.
        check_lease: raises LeaseError if another run took the step over; called before files are
            deleted, because the other run may have begun to read them.
        used: memos of the work tables that were used.
        measured: what the `units` function of a stage of kind `map` measures of the whole table, by
            the names of TABLE_STATS.
        kept: memos of saved states and work tables that gc keeps as long as it keeps a run of the step.
        inherited: kinds of states of earlier runs on which rows depend (see `inherit_state`).
        isolated: units never run in the process of the run (see `Parallel.map`).
        stale: what is computed again. Where that is everything, nothing of earlier runs is found here.
    """

    store: Store
    parallel: Parallel
    work: str
    salt: Any
    prepare: Callable[[], object] | None = None
    step: str = ""
    check_lease: Callable[[], object] | None = None
    used: set[str] = field(default_factory=set, compare=False)
    kept: set[str] = field(default_factory=set, compare=False)
    measured: dict[str, Any] = field(default_factory=dict, compare=False)
    inherited: set[str] = field(default_factory=set, compare=False)
    stale: Stale = NOTHING_STALE
    isolated: bool = False
    _saved: dict[str, FragmentRecord] = field(default_factory=dict, compare=False)

    def private(self) -> Context:
        """Return a context whose work tables no other step can find, so that they may be deleted."""
        return replace(self, salt=[self.salt, self.step])

    def for_all_steps(self) -> Context:
        """Return a context whose saved states all steps of the stage find."""
        return replace(self, step="")

    def compute(
        self,
        label: str,
        function: Callable[..., StageOutput],
        items: Mapping[str, Mapping[str, Any]],
        rows_per_file: int | None = None,
        batch_groups: bool = False,
        gpu: bool = False,
    ) -> dict[str, Fragment]:
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
            The work tables by the name of the item.
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
                isolated=self.isolated,
            )
            for name, arguments in items.items()
        ]
        self.used.update(unit.outputs[WORK].memo for unit in units)
        earlier = Earlier(stale=Stale(self.stale.everything))
        result = compute(self.store, self.parallel, label, units, earlier=earlier)
        return {
            name: Fragment(self.store, outputs[WORK]) for name, outputs in result.records.items()
        }

    @property
    def table_dir(self) -> str:
        """The folder of the store with the records of work tables."""
        return f"work/{self.work}"

    @property
    def folder(self) -> str:
        """The folder of the store with the files of work tables."""
        return f"{self.table_dir}/data"

    def save_state(self, name: str, key: Any, batch: pa.RecordBatch, shared: bool = False) -> None:
        """Save a state from which a stopped run continues. It replaces the one saved before.

        The new state is complete before the files of the last one are deleted, so a crash leaves one of
        the two. Files that another run wrote stay.

        Args:
            name: the kind of state.
            key: tables and values that the work depends on; `load_state` must get the same ones.
            batch: the state.
            shared: all steps of the stage share it; otherwise only this step finds it.
        """
        memo = self._memo(name, key, shared)
        place = self._state_dir(shared)
        writer = FragmentWriter(self.store, f"{place}/data", name, None)
        writer.write(batch)
        record = writer.close(place, memo, {})
        self.store.replace_record(record)
        last = self._saved.get(memo)
        if last is not None and not shared:
            self._delete(f.path for f in last.files)
        self._saved[memo] = record

    def load_state(self, name: str, key: Any, shared: bool = False) -> Fragment | None:
        """Return the state that `save_state` saved under this name and key, or None."""
        memo = self._memo(name, key, shared)
        if self.stale.everything and memo not in self._saved:
            return None
        record = self.store.finished_records(self._state_dir(shared), [memo]).get(memo)
        return None if record is None else Fragment(self.store, record)

    def keep_state(self, name: str, key: Any) -> None:
        """Let gc keep a state that was saved, as long as it keeps a run of the step."""
        self.kept.add(self._memo(name, key, shared=False))

    def keep_rows(self, name: str, rows: pa.RecordBatch) -> Fragment:
        """Save rows that are made where the stage runs, and return them for tasks to read.

        Rows of the same name and content are saved once.

        Args:
            name: the kind of rows.
            rows: the rows.
        """
        key = _digest_of_rows(rows)
        kept = self.load_state(name, key)
        if kept is None:
            self.save_state(name, key, rows)
            kept = self.load_state(name, key)
        assert kept is not None
        return kept

    def inherit_state(self, name: str, key: Any, shared: bool = False) -> Fragment | None:
        """Return a state of an earlier run on which rows will depend, besides tables and parameters.

        What the step writes is then not used for other recipes with the same tables and parameters.
        """
        self.inherited.add(name)
        return self.load_state(name, key, shared)

    def keep_tables(self, name: str, tables: Mapping[str, Sequence[Fragment]]) -> None:
        """Note work tables from which the next run of the step may take rows; replaces the last note.

        gc keeps them as long as it keeps a run of the step.

        Args:
            name: the kind of tables.
            tables: the work tables, by a key by which the next run finds them.
        """
        noted = [(key, fragment.record) for key, parts in tables.items() for fragment in parts]
        records = [json.dumps(record.to_json()) for _, record in noted]
        keys = pa.array([key for key, _ in noted], pa.string())
        batch = pa.record_batch({"key": keys, "record": pa.array(records, pa.string())})
        self.save_state(f"tables {name}", None, batch)
        self.keep_state(f"tables {name}", None)
        self.kept.update(fragment.record.memo for parts in tables.values() for fragment in parts)

    def kept_tables(self, name: str) -> dict[str, list[Fragment]]:
        """Return the work tables that the last run of the step noted, by their keys, in its order.

        No row may depend on them: some may be gone, as after a takedown. Those with a file that has
        vanished, or changed its size, are left out.
        """
        noted = self.load_state(f"tables {name}", None)
        if noted is None:
            return {}
        rows = noted.read()
        records = [
            FragmentRecord.from_json(json.loads(r)) for r in rows.column("record").to_pylist()
        ]
        paths = self.store.complete_files(f for record in records for f in record.files)
        tables: dict[str, list[Fragment]] = {}
        for key, record in zip(rows.column("key").to_pylist(), records, strict=True):
            if all(f.path in paths for f in record.files):
                tables.setdefault(key, []).append(Fragment(self.store, record))
        return tables

    def _state_dir(self, shared: bool) -> str:
        # What all steps share is what each of them goes on from, so gc keeps it.
        return f"{self.table_dir}/{SHARED}" if shared else self.table_dir

    def _memo(self, name: str, key: Any, shared: bool) -> str:
        return digest([self.salt, "" if shared else self.step, name, content_of(key)])

    def earlier_versions(self, table: str) -> Iterator[Manifest]:
        """Yield earlier versions of a table: that of this step, or else those written last.

        Fragments with a file that has vanished, or changed its size, are left out: they must not
        stand in the way of computing them anew.
        """
        if self.stale.everything:
            return
        listed: dict[str, dict[str, int]] = {}
        last = self.last_version(table)
        if last is not None:
            yield last
            return
        for version in self.store.versions(table)[:EARLIER_VERSIONS]:
            manifest = self.store.manifest(table, version)
            if manifest is not None:
                yield self._readable(manifest, listed)

    def last_version(self, table: str) -> Manifest | None:
        """Return the version of a table that this step committed last, or None.

        `reads` names the versions of other tables that the commit was made from. Fragments with a file
        that has vanished, or changed its size, are left out.
        """
        committed = StepLog(self.store, self.step).latest().tables.get(table) if self.step else None
        manifest = self.store.manifest(table, committed.version) if committed else None
        if committed is None or manifest is None:
            return None
        # Those that led to the same rows first may be gone, after gc.
        reads = {name: committed.lineage.get(name, v) for name, v in manifest.reads.items()}
        return replace(self._readable(manifest, {}), reads=reads)

    def _readable(self, manifest: Manifest, listed: dict[str, dict[str, int]]) -> Manifest:
        paths = self.store.complete_files(manifest.files, listed)
        complete = (r for r in manifest.fragments if all(f.path in paths for f in r.files))
        return replace(manifest, fragments=tuple(complete))

    def delete_tables(self, tables: Iterable[Fragment]) -> None:
        """Delete work tables that nothing will read again: those of a private context.

        The record goes first: a crash in between leaves files without a record, which nothing reads.
        """
        records = [table.record for table in tables]
        # Two work tables with the same content of arguments share a record.
        self._delete({record_path(r.table_dir, r.memo): None for r in records})
        self._delete({f.path: None for r in records for f in r.files})

    def _delete(self, paths: Iterable[str]) -> None:
        if self.check_lease is not None:
            self.check_lease()
        self.store.storage.delete(paths)


def _digest_of_rows(rows: pa.RecordBatch) -> str:
    """Return a digest that differs for rows that differ; it need not be the same for equal rows."""
    digested = hashlib.sha256(str(rows.schema).encode())
    for column in rows.columns:
        digested.update(f"{column.offset} {len(column)}".encode())
        for buffer in column.buffers():
            digested.update(b"" if buffer is None else buffer)
    return digested.hexdigest()
