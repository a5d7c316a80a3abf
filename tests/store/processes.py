"""Runs of a small recipe in processes that stop, go on and say what they do through a pipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import plan, run_fingerprint
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.store.clock import SystemClock
from curation.store.run_log import recorded_run
from curation.store.step_log import Waiting
from curation.store.store import Store

from ..ingest.helpers import jpeg, write
from ..workers import Recording

GATED = "ingest"
"""The stage in which a process stops, while it holds the lease: one that is imported in no time."""
REPLY_S = 120.0
"""Seconds after which a process that says nothing makes the test fail."""


class Gate(Recording):
    """Sends a message when a stage begins, and waits for the answer."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    @contextmanager
    def during(self, label: str, items: Sequence[Any]) -> Iterator[None]:
        """Wait before the gated stage."""
        if label == GATED:
            self._connection.send("holds the lease")
            self._connection.recv()
        yield


class ImpatientClock(SystemClock):
    """A clock on which a wait is over at once."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return super().monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        self._slept += seconds


def small_recipe(folder: Path, name: str = "a") -> Recipe:
    """A recipe whose source is three pictures in Parquet."""
    rows = [{"k": f"{name}{n}", "img": jpeg(n)} for n in range(3)]
    path = folder / f"{name}.parquet"
    if not path.exists():
        write(path, rows)
    columns = {"image": "img", "key": "k"}
    source = {"name": f"src-{name}", "role": "pool", "format": "parquet", "path": str(path)}
    return parse_recipe(
        {
            "name": name,
            "sources": [source | {"columns": columns}],
            "ingest": {"rows_per_fragment": 2},
        }
    )


def run_recipe(
    recipe: Recipe, store: Path, parallel: InProcess, waiting: Waiting | None = None
) -> list[dict[str, Any]]:
    """Run a recipe up to the gated stage; return the rows that it made."""
    opened = Store(store)
    with recorded_run(opened, recipe.name, run_fingerprint(recipe)) as run:
        for step in plan(recipe, until=GATED):
            run_step(step, opened, parallel, run, waiting)
    rows: list[dict[str, Any]] = open_table(opened, "pairs", run=run.record.run).read().to_pylist()
    return rows


def _main(folder: Path, connection: Connection) -> None:
    waiting = Waiting(notify=connection.send)
    try:
        rows = run_recipe(small_recipe(folder), folder / "store", Gate(connection), waiting)
        connection.send(("rows", rows))
    except StoreError as error:
        connection.send((type(error).__name__, str(error)))


class Runner:
    """A process that runs the recipe. It stops when it holds the lease of the gated stage."""

    def __init__(self, process: SpawnProcess, connection: Connection) -> None:
        self.process, self._connection = process, connection

    def go_on(self) -> None:
        """Let it leave the gate."""
        self._connection.send("go on")

    def reply(self) -> Any:
        """Return what it says next."""
        assert self._connection.poll(REPLY_S), "the process says nothing"
        return self._connection.recv()


@contextmanager
def runner(folder: Path) -> Iterator[Runner]:
    """Start a process that runs the recipe; end it afterwards."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_main, args=(folder, there))
    process.start()
    try:
        yield Runner(process, here)
    finally:
        process.kill()
        process.join()
