"""A list of URLs is cut by host, from files that earlier runs wrote: whatever happens to one of them,
running again gives the same rows."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from curation.engine.parallel import InProcess
from curation.engine.table import open_table
from curation.errors import StoreError
from curation.flow import plan, run_fingerprint
from curation.recipe import parse_recipe
from curation.runner.step import run_step
from curation.store.run_log import recorded_run
from curation.store.step_log import Waiting
from curation.store.store import Store
from curation.store.verification import verify_store

from .finished import DAMAGES, SkippingClock

ROWS = 40


def ingest(store: Store, folder: Path) -> None:
    source = {"name": "web", "role": "pool", "format": "csv", "path": str(folder)}
    recipe = parse_recipe(
        {
            "name": "list",
            "sources": [source | {"columns": {"url": "u"}}],
            "ingest": {"rows_per_fragment": 10},
        }
    )
    with recorded_run(store, recipe.name, run_fingerprint(recipe)) as run:
        run_step(plan(recipe)[0], store, InProcess(), run, Waiting(clock=SkippingClock()))


def write_list(path: Path, first: int) -> None:
    lines = [f"http://host{n % 7}.example/{n}.jpg" for n in range(first, first + ROWS)]
    path.write_text("\n".join(["u", *lines]) + "\n")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a list, and a store of two runs: a second list was added between them."""
    folder = tmp_path_factory.mktemp("lists")
    (folder / "lists").mkdir()
    for number in range(2):
        write_list(folder / "lists" / f"{number}.csv", number * ROWS)
        ingest(Store(folder / "store"), folder / "lists")
    return Path(folder)


def rows(store: Store) -> list[dict[str, object]]:
    return sorted(open_table(store, "pairs").read().to_pylist(), key=lambda row: row["pair_id"])


@pytest.mark.parametrize("damage", DAMAGES)
def test_running_again_mends_every_file(ingested: Path, tmp_path: Path, damage: str) -> None:
    expected = rows(Store(ingested / "store"))
    assert len(expected) == 2 * ROWS
    paths = sorted(Store(ingested / "store").storage.files("", recursive=True))
    assert any(path.startswith("work/ingest/shared/") for path in paths)
    for number, path in enumerate(random.Random(damage).sample(paths, 5)):
        shutil.copytree(ingested / "store", tmp_path / str(number))
        store = Store(tmp_path / str(number))
        DAMAGES[damage](Path(store.uri, path))
        try:
            ingest(store, ingested / "lists")
        except StoreError:
            ingest(store, ingested / "lists")
        if verify_store(store, set_aside=True):
            ingest(store, ingested / "lists")
        assert rows(store) == expected, path
