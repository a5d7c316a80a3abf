"""Two recipes on one store, in turns and at once: each gets its own rows."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import curation.stages.assemble.stage as assemble_stage
from curation.engine.parallel import InProcess
from curation.engine.table import Table, open_table
from curation.engine.units import StageOutput
from curation.errors import LeaseError
from curation.flow import plan, run_fingerprint, select_steps
from curation.recipe import Recipe, parse_recipe
from curation.runner.step import run_step
from curation.store.run_log import latest_run
from curation.store.step_log import Waiting
from curation.store.store import Store

from ..e2e.small import encoded, picture, write_rows
from .processes import ImpatientClock, small_recipe

SMALL, LARGE = 96, 160
"""Sides of the pictures, in pixels."""


def run(
    recipe: Recipe,
    store: Store,
    only: str | None = None,
    first: str | None = None,
    until: str | None = None,
) -> None:
    """Run some stages, as the command line does."""
    for step in select_steps(plan(recipe), only, first, until):
        run_step(step, store, InProcess())


def table_of(recipe: Recipe, store: Store, name: str) -> Table:
    """The table that the latest run of a recipe made."""
    record = latest_run(store, name, run_fingerprint(recipe))
    assert record is not None
    return open_table(store, name, run=record.run)


def test_a_stage_reads_what_its_recipe_made(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    a, b = small_recipe(tmp_path, "a"), small_recipe(tmp_path, "b")
    run(a, store, only="ingest")
    run(b, store, only="ingest")
    run(a, store, first="fetch", until="screen")
    images = table_of(a, store, "images").read(["source", "source_key"]).to_pylist()
    assert images == [{"source": "src-a", "source_key": f"a{n}"} for n in range(3)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of small and large pictures, and seeds."""
    folder: Path = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    pool = [encoded(picture(n, rng, side=SMALL if n % 2 else LARGE)) for n in range(12)]
    seeds = [encoded(picture(20 + n, rng)) for n in range(4)]
    for name, files in (("pool", pool), ("seed", seeds)):
        rows = [
            {"key": f"{name}{n}", "image": file, "caption": f"{name} picture {n}"}
            for n, file in enumerate(files)
        ]
        write_rows(folder / f"{name}.parquet", rows)
    return folder


def whole_recipe(folder: Path, name: str, at_least: int) -> Recipe:
    """A recipe that keeps pictures of at least some pixels."""
    columns = {"image": "image", "caption": "caption", "key": "key"}
    sources = [
        {"name": role, "role": role, "format": "parquet", "columns": columns}
        | {"path": str(folder / f"{role}.parquet")}
        for role in ("pool", "seed")
    ]
    return parse_recipe(
        {
            "name": name,
            "sources": sources,
            "ingest": {"rows_per_fragment": 4},
            "dedup": {"verify": None, "perceptual": None, "near": {"at_least": 0.9999}},
            "select": {"min_side": {"at_least": at_least}},
            "cluster": {"levels": [2]},
            "retrieve": [{"name": "all", "strategy": "hierarchical", "target": 100}],
            "assemble": {"rows_per_file": 4},
        }
    )


def widths(dataset: Table) -> set[int]:
    """The widths of the images of a dataset."""
    return set(dataset.read(["original_width"]).column(0).to_pylist())


@pytest.fixture(scope="module")
def both(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Recipe, Recipe]:
    """A store on which recipe a ran, then recipe b up to `select`, then a again from `cluster`."""
    store = Store(tmp_path_factory.mktemp("both") / "store")
    a, b = whole_recipe(pictures, "a", 10), whole_recipe(pictures, "b", 120)
    run(a, store)
    run(b, store, until="select")
    run(a, store, first="cluster")
    return store, a, b


def test_the_threshold_of_another_recipe_makes_no_difference(
    both: tuple[Store, Recipe, Recipe],
) -> None:
    store, a, b = both
    assert widths(table_of(a, store, "dataset")) == {SMALL, LARGE}
    run(b, store, first="embed")
    assert widths(table_of(b, store, "dataset")) == {LARGE}
    assert widths(table_of(a, store, "dataset")) == {SMALL, LARGE}


def test_two_runs_in_assemble_at_once_lose_no_file(
    both: tuple[Store, Recipe, Recipe], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, a, _ = both
    step = {s.name: s for s in plan(a)}["assemble"]
    expected = table_of(a, store, "dataset").read().to_pylist()
    # As if no file of the dataset had been written yet.
    for folder in ("dataset", "tables/dataset"):
        store.storage.delete_folder(folder)
    real, calls, meanwhile = assemble_stage.write_file, [], []

    @wraps(real)
    def interrupted(**arguments: Any) -> StageOutput:
        """Let another run overtake this one, after it wrote a part and began the next."""
        calls.append(1)
        number = len(calls)
        rows = real(**arguments)
        yield next(rows)
        if number == 2:
            waiting = Waiting(notify=lambda text: None, clock=ImpatientClock())
            meanwhile.append(run_step(step, Store(store.uri), InProcess(), waiting=waiting))
        result = yield from rows
        return result

    monkeypatch.setattr(assemble_stage, "write_file", interrupted)
    with pytest.raises(LeaseError, match="Nothing was committed"):
        run_step(step, store, InProcess())
    assert len(meanwhile) == 1
    dataset = table_of(a, store, "dataset")
    assert len(dataset.manifest.fragments) > 2
    assert dataset.read().to_pylist() == expected
