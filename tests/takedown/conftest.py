"""A finished run of a tiny recipe whose pictures have URLs, and a web server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curation.inspect.report.build import write_report
from curation.store.run_log import RunRecord
from curation.store.store import Store

from ..fetch.conftest import web  # noqa: F401
from ..gc.helpers import build_tiny, copied, edited, recipe_of, run_recipe
from .helpers import with_urls


@dataclass(frozen=True)
class Tiny:
    """A store with one run, and its recipe."""

    store: Path
    recipe: dict[str, Any]
    record: RunRecord


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The store that tests copy."""
    folder = tmp_path_factory.mktemp("takedown")
    spec = with_urls(build_tiny(folder / "web"), folder / "web")
    record, _ = run_recipe(spec, folder / "store")
    write_report(recipe_of(spec), Store(folder / "store"))
    return Tiny(folder / "store", spec, record)


@pytest.fixture
def tiny(base: Tiny, tmp_path: Path) -> Tiny:
    """A store that the test may change."""
    return Tiny(copied(base.store, tmp_path / "store"), edited(base.recipe), base.record)
