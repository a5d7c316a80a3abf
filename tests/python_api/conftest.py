"""A store with two runs of a tiny recipe: the second one drops a long caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import curation
from curation.inspect.api.store import OpenStore
from curation.store.run_record import RunRecord

from ..gc.helpers import build_tiny, copied, edited, run_recipe
from ..takedown.helpers import with_urls
from .limited import BALANCE, limited_recipe

HOSTILE = '<script>alert("x")</script>\x1b[2J'


@dataclass(frozen=True)
class Made:
    """The store, and what was run on it."""

    store: Path
    recipe: dict[str, Any]
    first: RunRecord
    second: RunRecord


def recipe_with_urls(folder: Path) -> dict[str, Any]:
    """Write the sources of the tiny recipe, with URLs and one hostile caption."""
    import pyarrow.parquet as pq

    from ..e2e.small import write_rows

    spec = with_urls(build_tiny(folder), folder)
    path = folder / "pool" / "a.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[2]["caption"] = HOSTILE
    rows[5]["image"] = b"no picture"
    write_rows(path, rows)
    return spec


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The store that tests only read."""
    folder = tmp_path_factory.mktemp("python_api")
    spec = recipe_with_urls(folder / "web")
    first, _ = run_recipe(spec, folder / "store")
    spec = edited(spec, select={"caption_length": {"at_most": 20}})
    second, _ = run_recipe(spec, folder / "store")
    return Made(folder / "store", spec, first, second)


@pytest.fixture
def opened(made: Made) -> Iterator[OpenStore]:
    """The store as a notebook opens it."""
    with curation.open(made.store) as store:
        yield store


@pytest.fixture
def own(made: Made, tmp_path: Path) -> Made:
    """A copy of the store that the test may change."""
    return Made(copied(made.store, tmp_path / "store"), made.recipe, made.first, made.second)


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two recipes: with the limits of `balance`, and without."""
    folder = tmp_path_factory.mktemp("limited")
    spec = limited_recipe(folder)
    run_recipe(spec, folder / "store")
    run_recipe(edited(spec, name="balanced", balance=BALANCE), folder / "store")
    return folder / "store"
