"""The web server of the tests of fetch, and runs that observers watch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.recipe import parse_recipe
from curation.runner.observer import Observers, RunObserver
from curation.runner.step import StepResult, run_step
from curation.store.run_log import recorded_run
from curation.store.store import Store
from tests.fetch.conftest import web  # noqa: F401
from tests.ingest.helpers import jpeg, source, write

RECIPE = "watched"
Watch = Callable[..., list[StepResult]]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Runs a recipe of four rows, of which one is no picture, with observers and without Spark."""
    path = tmp_path / "list.parquet"
    rows = [{"k": f"p{n}", "img": jpeg(n)} for n in range(3)]
    write(path, [*rows, {"k": "bad", "img": b"no picture"}])
    columns = {"image": "img", "key": "k"}
    spec = {"name": RECIPE, "sources": [source(path, columns=columns)]}

    def run(*observers: RunObserver, until: str = "screen", fail: str = "") -> list[StepResult]:
        recipe, store, results = parse_recipe(spec), Store(tmp_path / "store"), []
        steps = plan(recipe, until=until)
        with Observers(observers) as observer, recorded_run(store, RECIPE, "f") as record:
            observer.run_started(record.record, steps)
            for step in steps:
                observer.step_started(step)
                if step.name == fail:
                    raise RuntimeError(f"no space at https://u:p@host/{fail}")
                results.append(run_step(step, store, InProcess(), record))
                observer.step_ended(results[-1])
        return results

    return run


def names(results: Sequence[StepResult]) -> list[str]:
    """The stages of some results."""
    return [result.step.name for result in results]
