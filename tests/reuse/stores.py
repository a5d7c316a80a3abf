"""Runs recipes on a store that has a history, and on a fresh one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.store import Store
from tests.ingest.helpers import table

T = TypeVar("T")
R = TypeVar("R")
Rows = list[dict[str, Any]]
Spec = dict[str, Any]


class StoppedError(Exception):
    """The run was stopped."""


class StopsAfter(InProcess):
    """Workers that stop after some units."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self._left = units

    def map(self, label: str, function: Callable[[T], R], *args: Any, **options: Any) -> list[R]:
        """Apply the function to items, until the run is stopped."""

        def call(item: T) -> R:
            if self._left == 0:
                raise StoppedError
            self._left -= 1
            return function(item)

        return super().map(label, call, *args, **options)


def run(store: Path, spec: Spec, until: str, stop_after: int | None = None) -> Rows:
    """Run a recipe; return the rows of the table of the last stage, in their order."""
    workers = InProcess() if stop_after is None else StopsAfter(stop_after)
    steps = plan(parse_recipe({"name": "test", **spec}), until=until)
    for step in steps:
        run_step(step, Store(store), workers)
    rows: Rows = table(store, str(steps[-1].tables[0])).read().to_pylist()
    return rows


def up_to_date(store: Path, spec: Spec, until: str) -> bool:
    """Whether another run has nothing to do."""
    steps = plan(parse_recipe({"name": "test", **spec}), until=until)
    return all(run_step(step, Store(store), InProcess()).up_to_date for step in steps)


def run_fresh(spec: Spec, until: str) -> Rows:
    """Run a recipe on a store without a history."""
    with TemporaryDirectory() as folder:
        return run(Path(folder) / "fresh", spec, until)
