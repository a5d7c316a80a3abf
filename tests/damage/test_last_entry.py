"""A damaged last entry of a log may be a commit, so that nobody reads what was committed before it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from curation.engine.parallel import InProcess
from curation.errors import StoreError
from curation.flow import plan, run_fingerprint, select_steps
from curation.inspect.lineage import recipe_tables
from curation.recipe import Recipe, parse_recipe
from curation.runner.gc.restore import restore_run
from curation.runner.step import run_step
from curation.store.run_log import latest_run, recorded_run
from curation.store.step_log import StepLog, Waiting
from curation.store.store import Store

from ..ingest.helpers import jpeg, table, write
from .finished import DAMAGES


def recipe(folder: Path) -> Recipe:
    source = {"name": "web", "role": "pool", "format": "parquet", "path": str(folder / "web")}
    return parse_recipe({"name": "r", "sources": [source | {"columns": {"image": "image"}}]})


def run(recipe: Recipe, store: Store, only: str | None = None, until: str = "screen") -> None:
    steps = select_steps(plan(recipe), only, None, None if only else until)
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as record:
        for step in steps:
            run_step(step, store, InProcess(), record)


@pytest.fixture
def two_states(tmp_path: Path) -> Store:
    """A store on which a recipe ran with one picture, and then with two."""
    store = Store(tmp_path / "store")
    for number in range(2):
        write(tmp_path / "web" / f"{number}.parquet", [{"image": jpeg(number)}])
        run(recipe(tmp_path), store)
    return store


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "delete"])
def test_a_single_stage_does_not_read_an_earlier_commit(
    tmp_path: Path, two_states: Store, damage: str
) -> None:
    wanted = recipe(tmp_path)
    log = StepLog(two_states, plan(wanted)[0].fingerprint)
    DAMAGES[damage](Path(two_states.uri, log.path(log.numbers()[-1])))
    shutil.rmtree(Path(two_states.uri, "tables/images"))
    for use in (
        lambda: run(wanted, two_states, only="fetch"),
        lambda: recipe_tables(wanted, two_states, ["pairs"]),
    ):
        with pytest.raises(StoreError, match=r"is damaged, so nobody knows.*without --only"):
            use()
    run(wanted, two_states)
    run(wanted, two_states, only="fetch")
    assert table(Path(two_states.uri), "images").rows == 2
    assert recipe_tables(wanted, two_states, ["pairs"])["pairs"].rows == 2


def test_restoring_adds_an_entry_after_a_damaged_one(tmp_path: Path, two_states: Store) -> None:
    wanted = recipe(tmp_path)
    latest = latest_run(two_states, "pairs")
    assert latest is not None
    log = StepLog(two_states, plan(wanted)[0].fingerprint)
    assert log.add(
        log.latest().__class__(log.numbers()[-1] + 1, "release", tables=log.latest().tables)
    )
    DAMAGES["truncate"](Path(two_states.uri, log.path(log.numbers()[-1])))
    restore_run(two_states, latest, Waiting())
    assert not log.latest().is_damaged
    assert recipe_tables(wanted, two_states, ["pairs"])["pairs"].rows == 2
