"""A store with two runs: of a recipe, and of the same recipe with another arm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curation.inspect.report.build import write_report
from curation.store.run_record import RunRecord
from curation.store.store import Store

from ..fetch.conftest import web  # noqa: F401
from .helpers import build_tiny, copied, edited, recipe_of, run_recipe


@dataclass(frozen=True)
class TwoRuns:
    """A store, and the recipes and records of its runs."""

    store: Path
    first_recipe: dict[str, Any]
    first: RunRecord
    second_recipe: dict[str, Any]
    second: RunRecord


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> TwoRuns:
    """The store that tests copy."""
    folder = tmp_path_factory.mktemp("gc")
    spec, store = build_tiny(folder / "web"), folder / "store"
    other = edited(spec, retrieve=[spec["retrieve"][0] | {"k": 1}])
    records = []
    for recipe in (spec, other):
        records.append(run_recipe(recipe, store)[0])
        write_report(recipe_of(recipe), Store(store))
    return TwoRuns(store, spec, records[0], other, records[1])


@pytest.fixture
def two_runs(base: TwoRuns, tmp_path: Path) -> TwoRuns:
    """A store that the test may change."""
    store = copied(base.store, tmp_path / "store")
    return TwoRuns(store, base.first_recipe, base.first, base.second_recipe, base.second)
