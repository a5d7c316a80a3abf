"""Units that mostly wait let others of their task start; one at a time works. Results are small."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.engine.compute import MAX_AT_ONCE, compute, run_chains, tasks_of
from curation.engine.parallel import InProcess
from curation.engine.units import WORK, Chain, Output, StageOutput, Unit, run_unit
from curation.errors import StoreError
from curation.store.store import Store
from curation.store.work_folder import WorkFolder

PATIENCE_S = 30.0
Function = Callable[..., StageOutput]


def unit(name: str, function: Function) -> Unit:
    """A unit that writes a row of a work table."""
    output = Output("", "work/t", "work/t/data", f"memo-{name}", name=name)
    return Unit(name, function, {"name": name}, {WORK: output}, waits=True)


def one_slot() -> InProcess:
    """Workers of which one item runs at a time, so that units share tasks."""
    workers = InProcess()
    workers.slots = 1
    return workers


class Watch:
    """Counts the units that run and that work, and keeps the largest numbers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = self.working = self.most_running = self.most_working = 0
        self.calls: list[str] = []

    def begin(self, name: str) -> None:
        """A unit starts."""
        with self._lock:
            self.calls.append(name)
            self.running, self.working = self.running + 1, self.working + 1
            self.most_running = max(self.most_running, self.running)
            self.most_working = max(self.most_working, self.working)

    def rest(self) -> None:
        """A unit is about to say that it waits."""
        with self._lock:
            self.working -= 1

    def end(self, rested: bool) -> None:
        """A unit ends."""
        with self._lock:
            self.running, self.working = self.running - 1, self.working - (not rested)


def row(name: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"name": [name]})


def test_units_that_wait_run_beside_each_other_and_one_works(tmp_path: Path) -> None:
    watch, all_wait = Watch(), threading.Barrier(MAX_AT_ONCE)

    def slow(name: str, waiting: Callable[[], None]) -> StageOutput:
        watch.begin(name)
        watch.rest()
        waiting()
        waiting()
        all_wait.wait(PATIENCE_S)
        yield row(name)
        watch.end(rested=True)
        return {}

    units = [unit(str(n), slow) for n in range(2 * MAX_AT_ONCE)]
    result = compute(Store(tmp_path), one_slot(), "test", units)
    assert sorted(result.records) == sorted(u.name for u in units)
    assert (watch.most_running, watch.most_working) == (MAX_AT_ONCE, 1)


def test_units_that_do_not_wait_run_one_after_another(tmp_path: Path) -> None:
    watch = Watch()

    def busy(name: str, waiting: Callable[[], None]) -> StageOutput:
        watch.begin(name)
        yield row(name)
        watch.end(rested=False)
        return {}

    compute(Store(tmp_path), one_slot(), "test", [unit(str(n), busy) for n in range(6)])
    assert watch.most_running == 1


def test_units_of_a_chain_never_run_at_the_same_time(tmp_path: Path) -> None:
    running: dict[str, int] = {"a": 0, "b": 0}
    together, both = [], threading.Barrier(2)

    def slow(name: str, waiting: Callable[[], None]) -> StageOutput:
        running[name[0]] += 1
        together.append(running[name[0]])
        waiting()
        # The first of each chain meet; so do the second.
        both.wait(PATIENCE_S)
        yield row(name)
        running[name[0]] -= 1
        return {}

    chains = [[unit(name, slow) for name in names] for names in (("a1", "a2"), ("b1", "b2"))]
    run_chains(Store(tmp_path), chains)
    assert together == [1] * 4


def test_after_an_error_no_unit_starts_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    calls: list[str] = []
    failing = {"2"}

    def some(name: str, waiting: Callable[[], None]) -> StageOutput:
        calls.append(name)
        if name in failing:
            raise StoreError(f"unit {name} fails")
        yield row(name)
        return {}

    units = [unit(str(n), some) for n in range(5)]
    store, chains = Store(tmp_path), [[u] for u in units]
    with pytest.raises(StoreError, match="unit 2 fails"):
        run_chains(store, chains)
    *finished, last = calls
    assert last == "2"
    # As if Spark started the task again.
    failing.clear()
    calls.clear()
    results = run_chains(store, chains)
    assert sorted(calls + finished) == ["0", "1", "2", "3", "4"]
    assert [[r[WORK].name for r in chain] for chain in results] == [[u.name] for u in units]


def test_attempts_at_a_unit_have_folders_of_their_own(tmp_path: Path) -> None:
    """As of a task that Spark starts twice: the second attempt sees what the first one left."""
    folders: list[WorkFolder] = []

    def some(name: str, workdir: WorkFolder) -> StageOutput:
        folders.append(workdir)
        workdir.store.storage.write(f"{workdir.attempt}/shard", name.encode())
        if len(folders) == 1:
            raise StoreError("the machine is lost")
        assert workdir.earlier() == [folders[0].attempt]
        yield row(name)
        return {}

    output = Output("", "work/t", "work/t/data", "memo")
    twice = Unit("u", some, {"name": "u"}, {WORK: output}, work_folder="work/u", attempt="s-1")
    store = Store(tmp_path)
    with pytest.raises(StoreError, match="machine is lost"):
        run_unit(store, twice)
    run_unit(store, twice)
    first, second = (folder.attempt for folder in folders)
    assert first != second
    assert store.storage.read(f"{first}/shard") == b"u"
    assert store.storage.read(f"{second}/shard") is None


def test_results_of_tasks_are_small(tmp_path: Path) -> None:
    """Those of 130,000 fragments stay below `spark.driver.maxResultSize`, which is 1 GiB by default."""

    def measured(name: str, waiting: Callable[[], None]) -> StageOutput:
        yield row(name)
        return {
            "bytes": 10**12,
            "seconds": 0.25,
            "reasons": {f"http_{n}": n for n in range(400, 500)},
        }

    chains = [[unit(f"web-{n:08d}", measured)] for n in range(40)]
    results = run_chains(Store(tmp_path), chains)
    assert len(results) == 40
    assert len(pickle.dumps(results)) / 40 * 130_000 < 2**30


@pytest.mark.parametrize("slots", [None, 1])
@pytest.mark.parametrize("chain", [None, Chain(0, "c")])
def test_fragments_with_the_same_rows_keep_their_names(
    tmp_path: Path, slots: int | None, chain: Chain | None
) -> None:
    """As of two files that are copies of each other."""

    def same(name: str, waiting: Callable[[], None]) -> StageOutput:
        yield row("same")
        return {}

    workers, output = InProcess(), Output("", "work/t", "work/t/data", "memo")
    workers.slots = slots
    units = [Unit(n, same, {"name": n}, {WORK: output}, chain, waits=True) for n in "abcd"]
    for _ in range(2):
        result = compute(Store(tmp_path), workers, "test", units)
        assert {n: outputs[WORK].name for n, outputs in result.records.items()} == dict(
            zip("abcd", "abcd", strict=True)
        )


def no_rows(name: str, waiting: Callable[[], None]) -> StageOutput:
    """Yield no rows."""
    yield row(name)[:0]
    return {}


@given(chains=st.integers(0, 300), slots=st.integers(1, 40))
def test_each_chain_is_in_one_task_and_no_slot_is_without(chains: int, slots: int) -> None:
    workers = InProcess()
    workers.slots = slots
    made = [[unit(str(n), no_rows)] for n in range(chains)]
    tasks = tasks_of(made, workers)
    assert sorted(int(chain[0].name) for task in tasks for chain in task) == list(range(chains))
    sizes = [len(task) for task in tasks]
    assert not sizes or (max(sizes) <= 8 and max(sizes) - min(sizes) <= 1)
    assert len(tasks) >= min(chains, slots)
    workers.slots = None
    assert tasks_of(made, workers) == [[chain] for chain in made]
