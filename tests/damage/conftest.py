"""The finished run that tests damage: it is built once, and each test copies the folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.flow import plan
from curation.recipe import parse_recipe
from curation.store.store import Store

from .finished import build_sources, leave_what_a_killed_run_leaves, run_recipe, tables_of


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        spec: its recipe.
        folder: of its store.
        tables: the rows of its tables.
    """

    spec: dict[str, Any]
    folder: Path
    tables: dict[str, pa.Table]

    def files(self) -> list[str]:
        """Return the paths of the files of the store, in order."""
        return sorted(Store(self.folder).storage.files("", recursive=True))

    def copy(self, target: Path) -> Store:
        """Return a copy of the store."""
        shutil.copytree(self.folder, target)
        return Store(target)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A finished run, in a store in which another run was killed."""
    folder = tmp_path_factory.mktemp("finished")
    spec = build_sources(folder / "sources")
    store = Store(folder / "store")
    run_recipe(spec, store)
    tables = tables_of(spec, store)
    (select,) = (step for step in plan(parse_recipe(spec)) if step.name == "select")
    leave_what_a_killed_run_leaves(store, select.fingerprint)
    return Finished(spec, folder / "store", tables)
