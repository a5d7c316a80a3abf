"""Runs of small plans by racing processes on one simulated store, with faults, kills and restarts.

`simulate` runs one schedule and checks the invariants of the store (see `invariants`).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from unittest.mock import patch

from obstore.exceptions import GenericError

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import DamagedFileError, LeaseError, StoreError
from curation.flow import Step
from curation.runner.step import run_step
from curation.store import run_record
from curation.store import store as store_module
from curation.store.holder import Holder
from curation.store.run_log import recorded_run
from curation.store.run_record import RunRecord
from curation.store.step_log import Waiting
from curation.store.store import Store

from .recipe import TABLES, FolderGoneError, check_rows, steps_of
from .scheduler import Process, Scheduler, SimulatedClock
from .storage import Faults, Server, SimulatedStorage

ATTEMPTS = 40
"""Attempts after which a runner is said to make no progress."""
RESTART_S = 60.0
"""A runner that failed is started again within so many seconds."""


@dataclass
class Attempt:
    """One process that tried to run the recipe.

    Attributes:
        process: the process.
        seed: of the recipe.
        record: of its run, as it was last; None before it began.
        outcome: `finished`, `failed` by the storage, `overtaken`, `disturbed` by a holder that was
            overtaken and went on, or `tidied away` by the one that overtook it; empty if it was killed.
        step: fingerprint of the step that it was at.
    """

    process: Process
    seed: int
    record: RunRecord | None = None
    outcome: str = ""
    step: str = ""


@dataclass
class World:
    """A store, the processes that use it, and what they report.

    Attributes:
        scheduler: decides who goes on.
        server: the store's objects.
        faults: what goes wrong.
        attempts: every process that ran the recipe.
        readings: number of tables that readers read.
    """

    scheduler: Scheduler
    server: Server
    faults: Faults
    attempts: list[Attempt] = field(default_factory=list)
    readings: int = 0
    processes: dict[int, Process] = field(default_factory=dict)

    def new_process(self, host: str) -> Process:
        """Return a new process of a host."""
        number, random = len(self.processes) + 1, self.scheduler.random
        process = Process(f"p{number}", host, random.uniform(0.9, 1.1), random.uniform(-1e6, 1e6))
        self.processes[number] = process
        return process

    def holder(self, run: str) -> Holder:
        """Return the process that runs as the holder of a lease."""
        process = self.scheduler.process
        return Holder(process.host, int(process.name[1:]), process.host, 1, run)

    def has_ended(self, holder: Holder) -> bool:
        """Whether a holder has ended, as the process that runs can know it."""
        process = self.processes[holder.pid]
        return process.host == self.scheduler.process.host and process.ended

    def open_store(self) -> Store:
        """Return the store, as a process reaches it."""
        return Store("simulated://store", SimulatedStorage(self.server, self.faults))


class SerialPool:
    """Stands for a pool of threads, and has none."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> SerialPool:
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return `[function(item) for item in items]`."""
        return [function(item) for item in items]


@contextmanager
def simulated_engine(world: World) -> Iterator[None]:
    """Let the engine see the simulated processes, and no thread that the scheduler does not know."""

    # Not the random numbers of the schedule: a module that is imported first may draw a name.
    names = Random(world.scheduler.random.getrandbits(64))

    def seeded_uuid() -> uuid.UUID:
        return uuid.UUID(int=names.getrandbits(128), version=4)

    with (
        patch.object(run_record, "this_process", world.holder),
        patch.object(Holder, "has_ended", property(world.has_ended)),
        patch.object(store_module, "ThreadPoolExecutor", SerialPool),
        patch.object(uuid, "uuid4", seeded_uuid),
    ):
        disabled = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(disabled)


def attempt(world: World, this: Attempt, steps: list[Step]) -> None:
    """Run the steps, as a command does; note what it would say at the end."""
    store = world.open_store()
    clock = SimulatedClock(world.scheduler, this.process)
    waiting = Waiting(notify=lambda text: None, clock=clock)
    try:
        with recorded_run(store, steps[0].recipe, steps[0].run) as run:
            for step in steps:
                this.step = step.fingerprint
                run_step(step, store, InProcess(), run, waiting)
        this.record, this.outcome = run.record, "finished"
    except LeaseError:
        this.outcome = "overtaken"
    except GenericError:
        this.outcome = "failed"
    except FolderGoneError:
        this.outcome = "tidied away"
    except DamagedFileError as error:
        # The work tables of a step are those of all its holders, and the one that was overtaken may
        # still delete what it wrote.
        assert error.path.startswith("work/") and "has vanished" in str(error), error
        this.outcome = "disturbed"


def start_runner(world: World, seed: int, host: str, first: int = 0) -> None:
    """Run a recipe until it succeeds: each attempt is a new process, as after a crash."""
    scheduler, random = world.scheduler, world.scheduler.random
    made = 0

    def start(delay_s: float) -> None:
        nonlocal made
        made += 1
        assert made <= ATTEMPTS, f"no success in {ATTEMPTS} attempts: {world.attempts}"
        this = Attempt(world.new_process(host), seed)
        world.attempts.append(this)
        # Later attempts run the whole recipe: its first stages may never have been run.
        steps = steps_of(seed)[first if made == 1 else 0 :]

        def main() -> None:
            try:
                attempt(world, this, steps)
            finally:
                this.process.ended = True
                if this.outcome != "finished":
                    start(random.uniform(0, RESTART_S))

        scheduler.spawn(this.process, main, delay_s)

    start(random.uniform(0, 5))


def start_reader(world: World, seconds: float, times: int) -> None:
    """Open tables of the latest run again and again: they are whole, whenever that is."""
    process = world.new_process("reader")

    def main() -> None:
        store = world.open_store()
        for _ in range(times):
            world.scheduler.pause(world.scheduler.random.uniform(0, 2 * seconds / times))
            table = world.scheduler.random.choice(TABLES)
            try:
                check_rows(table, open_table(store, table).read())
                world.readings += 1
            except GenericError:
                continue
            except StoreError as error:
                assert "No finished run" in str(error), error

    scheduler = world.scheduler
    scheduler.spawn(process, main)


def change_source(world: World, after_s: float) -> None:
    """Let the source hold something else from some time on."""

    def change() -> None:
        world.server.source += 1

    world.scheduler.later(after_s, change)


def build(seed: int) -> World:
    """Return the world of a schedule: who runs what, where, and what goes wrong."""
    random = Random(seed)
    scheduler = Scheduler(random)
    faults = Faults(random, random.choice((0, 1, 2, 4, 8, 16)), random.choice((5, 15, 40, 100)))
    return World(scheduler, Server(scheduler), faults)


def populate(world: World) -> None:
    """Start the runners and the reader of a schedule."""
    random = world.scheduler.random
    recipes = random.choice(((1, 1), (1, 1), (1, 2), (1, 1, 1), (1, 1, 2)))
    hosts = random.choice((("a",), ("a", "b"), ("a", "b", "c")))
    for seed in recipes:
        start_runner(world, seed, random.choice(hosts))
    start_reader(world, 100, random.choice((0, 2, 6)))
    if random.random() < 0.4:
        change_source(world, random.uniform(0, 30))


def simulate(seed: int) -> World:
    """Run the schedule of a seed to its end, then run its recipes once more, undisturbed.

    Raises:
        AssertionError: an invariant does not hold.
    """
    from .invariants import check_history, check_runs

    world = build(seed)
    with simulated_engine(world):
        populate(world)
        world.scheduler.run()
        world.scheduler.drain()
        world.faults.left = 0
        check_history(world)
        check_runs(world)
        disturbed = len(world.attempts)
        for recipe in sorted({this.seed for this in world.attempts}):
            start_runner(world, recipe, "last")
            world.scheduler.run()
        for this in world.attempts[disturbed:]:
            assert this.outcome == "finished", f"undisturbed, a run ended {this.outcome!r}"
        check_history(world)
        check_runs(world)
    return world
