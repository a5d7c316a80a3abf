"""Runs of single stages, as tasks of a scheduler: what belongs to each of them, after later ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curation.engine.parallel import InProcess
from curation.flow import plan
from curation.inspect.lineage import trace
from curation.runner.gc.restore import restore_run
from curation.runner.step import run_step
from curation.store.run_log import latest_run
from curation.store.run_record import RunRecord
from curation.store.step_log import StepLog, Waiting
from curation.store.store import Store
from curation.store.tags import add_tag

from ..ingest.helpers import write
from .helpers import build_tiny, copied, gc, recipe_of


@dataclass(frozen=True)
class Twice:
    """A store on which every stage ran alone, before and after a row was added that is dropped.

    Attributes:
        store: its folder.
        recipe: the recipe.
        runs: the runs of the stage assemble.
        versions: the version of each table at the time of each of them.
    """

    store: Path
    recipe: dict[str, Any]
    runs: list[RunRecord]
    versions: list[dict[str, str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """The store that tests copy."""
    folder = tmp_path_factory.mktemp("stages")
    spec, store = build_tiny(folder / "web"), Store(folder / "store")
    runs, versions = [], []
    for number in range(2):
        if number:
            broken = {"key": "broken", "image": b"no picture", "caption": "none"}
            write(folder / "web" / "pool" / "b.parquet", [broken])
        made: dict[str, str] = {}
        for step in plan(recipe_of(spec)):
            result = run_step(step, store, InProcess())
            made |= {manifest.table: manifest.version for manifest in result.manifests}
        record = latest_run(store, "dataset")
        assert record is not None
        runs.append(record)
        versions.append(made)
    assert versions[0]["dataset"] == versions[1]["dataset"]
    assert versions[0]["pairs"] != versions[1]["pairs"]
    return Twice(folder / "store", spec, runs, versions)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("after_gc", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_a_run_of_one_stage_is_read_with_the_tables_that_it_was_made_from(
    base: Twice, tmp_path: Path, number: int, after_gc: bool
) -> None:
    """The same dataset was committed again, made from other versions of other tables."""
    store = Store(copied(base.store, tmp_path / "store"))
    if after_gc:
        for record, name in zip(base.runs, ("first", "second"), strict=True):
            add_tag(store, name, record.run)
        gc(store)
    lineage = trace(recipe_of(base.recipe), store, base.runs[number].run)
    read = {name: table.manifest.version for name, table in lineage.tables.items()}
    assert read == base.versions[number]


def test_what_is_restored_was_made_from_the_versions_of_the_restored_run(
    base: Twice, tmp_path: Path
) -> None:
    store = Store(copied(base.store, tmp_path / "store"))
    restore_run(store, base.runs[0], Waiting(wait=False))
    committed = StepLog(store, base.runs[0].steps["dataset"]).latest().tables["dataset"]
    first = base.versions[0]
    assert committed.lineage == {name: first[name] for name in committed.lineage}
    assert committed.lineage["pairs"] == first["pairs"]
