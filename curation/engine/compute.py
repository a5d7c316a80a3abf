"""Computes units on workers: what is finished is found by its memo, the others run as chains.

A unit that mostly waits for others, such as the last slow hosts of a fragment, lets the next one of
its task start beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from curation.engine.fragment_progress import FragmentProgress
from curation.engine.joint_units import TASKS_PER_SLOT, join_units
from curation.engine.parallel import Parallel, ProgressCounter
from curation.engine.units import Output, Unit, run_unit
from curation.errors import CurationError, WorkerError
from curation.store.manifest import FragmentRecord
from curation.store.store import Store

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""

MAX_AT_ONCE = 4
"""Units of one task at the same time: one that works, and others that mostly wait."""
_MAX_CHAINS = 8
_SHOWN_UNITS = 3

ChainResult = list[dict[str, FragmentRecord]]
"""For each unit of a chain the record of each output."""


@dataclass(frozen=True)
class Stale:
    """Which finished fragments are computed again although nothing that decides their rows changed.

    Attributes:
        everything: all.
        outcomes: those with rows of these outcomes, as `timeout`.
        memos: those with these memos.
    """

    everything: bool = False
    outcomes: frozenset[str] = frozenset()
    memos: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return self.everything or bool(self.outcomes or self.memos)

    def __call__(self, record: FragmentRecord) -> bool:
        """Whether a fragment is one of them."""
        if self.everything or record.memo in self.memos:
            return True
        counted = (outcome for of_role in record.counts.values() for outcome in of_role)
        return not self.outcomes.isdisjoint(counted)


NOTHING_STALE = Stale()


class Earlier(NamedTuple):
    """What earlier runs finished.

    Attributes:
        known: records by memo that were read already, such as those of earlier versions.
        stale: which finished outputs are computed again.
    """

    known: Mapping[str, FragmentRecord] = {}
    stale: Stale = NOTHING_STALE


NOTHING_EARLIER = Earlier()


def run_chains(
    store: Store, chains: Sequence[Sequence[Unit]], stale: Stale = NOTHING_STALE
) -> list[ChainResult]:
    """Compute chains, each one unit after another; runs on a worker.

    One unit at a time works. Once it mostly waits, a unit of the next chain starts beside it. After an
    error no further unit starts.

    Returns:
        The result of each chain.
    """
    # Spark may start a failed task again. Units that the first attempt finished are then reused.
    reuse = sum(map(len, chains)) > 1
    if len(chains) == 1:
        return [
            [
                (_finished(store, u, stale) if reuse else None) or run_unit(store, u)
                for u in chains[0]
            ]
        ]
    works, failed = threading.Lock(), threading.Event()

    def run(chain: Sequence[Unit]) -> ChainResult:
        try:
            return [_run_in_turn(store, unit, works, failed, stale) for unit in chain]
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(MAX_AT_ONCE, "curation-units") as pool:
        futures = [pool.submit(run, chain) for chain in chains]
    # The error that came first, and not that of a chain which it stopped.
    errors = [error for future in futures if (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, _StoppedError)):
        raise error
    return [future.result() for future in futures]


class _StoppedError(Exception):
    """Another unit of the task has failed."""


class _Turn:
    """The right to work, which a unit gives up once it waits, or ends."""

    def __init__(self, works: threading.Lock) -> None:
        self._works, self._is_mine, self._guard = works, True, threading.Lock()
        works.acquire()

    def give_up(self) -> None:
        """Let the next unit start; only the first call counts."""
        with self._guard:
            if self._is_mine:
                self._is_mine = False
                self._works.release()


def _run_in_turn(
    store: Store, unit: Unit, works: threading.Lock, failed: threading.Event, stale: Stale
) -> dict[str, FragmentRecord]:
    turn = _Turn(works)
    try:
        if failed.is_set():
            raise _StoppedError
        return _finished(store, unit, stale) or run_unit(store, unit, turn.give_up)
    finally:
        turn.give_up()


def _finished(store: Store, unit: Unit, stale: Stale) -> dict[str, FragmentRecord] | None:
    """Return the records of a unit, if an earlier attempt has finished it."""
    finished = {
        name: record
        for name, output in unit.outputs.items()
        for record in store.finished_records(output.table_dir, [output.memo]).values()
        if not stale(record)
    }
    return finished if len(finished) == len(unit.outputs) else None


def tasks_of(chains: Sequence[Sequence[Unit]], parallel: Parallel) -> list[list[Sequence[Unit]]]:
    """Return the chains of each task: one, or several whose units let each other start.

    There are enough tasks to keep all workers busy to the end.
    """
    slots = parallel.slots if any(unit.waits for chain in chains for unit in chain) else None
    if slots is None:
        return [[chain] for chain in chains]
    count = max(min(len(chains), slots * TASKS_PER_SLOT), -(-len(chains) // _MAX_CHAINS))
    return [list(chains[task::count]) for task in range(count)]


def _phases(units: Sequence[Unit]) -> list[list[list[Unit]]]:
    """Return the chains of each phase. A unit without a chain is one of its own, in phase 0."""
    phases: dict[int, dict[str, list[Unit]]] = {}
    for unit in units:
        phase, name = (
            (unit.chain.phase, f"chain {unit.chain.name}") if unit.chain else (0, unit.name)
        )
        phases.setdefault(phase, {}).setdefault(name, []).append(unit)
    return [list(phases[phase].values()) for phase in sorted(phases)]


@dataclass(frozen=True)
class ComputeResult:
    """The result of `compute`.

    Attributes:
        records: by unit and output.
        reused: number of records that earlier runs had finished.
        computed: number of records that were computed.
    """

    records: Mapping[str, Mapping[str, FragmentRecord]]
    reused: int
    computed: int


ProgressFunction = Callable[[Store, Sequence[Unit]], ProgressCounter]
"""Gets the units that will be computed, and returns what describes their progress. Its `summarise` gets
the result of `run_chains`."""


def compute(
    store: Store,
    parallel: Parallel,
    label: str,
    units: Sequence[Unit],
    progress: ProgressFunction | None = None,
    earlier: Earlier = NOTHING_EARLIER,
) -> ComputeResult:
    """Compute the outputs that no earlier run finished, and return the records of all units.

    Args:
        store: where tables are.
        parallel: the workers.
        label: says what is computed, in progress bars.
        units: with different names.
        progress: describes the progress of the units that are computed; by default fragments are
            counted.
        earlier: what earlier runs finished.

    Raises:
        WorkerError: the worker of a task ended again and again; it names the units.
    """
    records, missing = _find_records(store, units, earlier)
    counter: ProgressCounter = (
        progress(store, missing) if progress and missing else FragmentProgress(missing)
    )
    gpu, isolated = any(u.gpu for u in missing), any(u.isolated for u in missing)
    for chains in _phases(join_units(missing, parallel)):
        tasks = tasks_of(chains, parallel)
        function = partial(run_chains, store, stale=earlier.stale)
        try:
            results = parallel.map(label, function, tasks, counter, gpu, isolated)
        except WorkerError as error:
            raise _with_names(error, label, store, tasks, earlier.stale) from error
        for task, result in zip(tasks, results, strict=True):
            for chain, unit_records in zip(task, result, strict=True):
                for unit, computed_records in zip(chain, unit_records, strict=True):
                    for output_name, record in computed_records.items():
                        output = unit.outputs[output_name]
                        name = output.name or unit.name
                        # Another fragment of the task, with the same rows, may have computed them.
                        records[name][output.table] = replace(record, name=name)
    computed = sum(len(u.outputs) for u in missing)
    return ComputeResult(records, sum(len(u.outputs) for u in units) - computed, computed)


def _with_names(
    error: WorkerError,
    label: str,
    store: Store,
    tasks: Sequence[Sequence[Sequence[Unit]]],
    stale: Stale,
) -> WorkerError:
    """Return an error that names the units which the failed task has not finished."""
    if error.task is None or error.task >= len(tasks):
        return WorkerError(*(d.within(label) for d in error.details), task=error.task)
    units = [unit for chain in tasks[error.task] for unit in chain]
    # An error of the store here would hide the one that happened.
    with suppress(CurationError, OSError):
        units = [unit for unit in units if _finished(store, unit, stale) is None] or units
    shown = ", ".join(unit.name for unit in units[:_SHOWN_UNITS])
    more = f" and {len(units) - _SHOWN_UNITS} more" if len(units) > _SHOWN_UNITS else ""
    place = f"{label}, at {shown}{more}"
    return WorkerError(*(d.within(place) for d in error.details), task=error.task)


def _find_records(
    store: Store, units: Sequence[Unit], earlier: Earlier
) -> tuple[dict[str, dict[str, FragmentRecord]], list[Unit]]:
    """Return the records of finished outputs by unit and output, and units for the missing ones."""
    memos: dict[str, list[str]] = {}
    for unit in units:
        for output in unit.outputs.values():
            memos.setdefault(output.table_dir, []).append(output.memo)
    finished = {d: store.finished_records(d, m, earlier.known) for d, m in memos.items()}
    records: dict[str, dict[str, FragmentRecord]] = {unit.name: {} for unit in units}
    missing = []
    for unit in units:
        missing_outputs = {}
        for name, output in unit.outputs.items():
            record = finished[output.table_dir].get(output.memo)
            if record is None or earlier.stale(record):
                missing_outputs[name] = output
            else:
                # The same rows may have been computed for a fragment with another name.
                records[unit.name][name] = replace(record, name=unit.name)
        if missing_outputs:
            missing.append(_with_outputs(unit, missing_outputs))
    return records, missing


def _with_outputs(unit: Unit, outputs: Mapping[str, Output]) -> Unit:
    """Return the unit that computes only some of the outputs."""
    if len(outputs) == len(unit.outputs):
        return unit
    arguments = {**unit.arguments, **(unit.only(list(outputs)) if unit.only else {})}
    return replace(unit, outputs=outputs, arguments=arguments)
