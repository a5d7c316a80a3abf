"""A finished run with its recipe as a file, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from curation.cli import app
from curation.store.store import Store

from ..gc.helpers import build_tiny, copied, run_recipe


@dataclass(frozen=True)
class World:
    """A store with a run.

    Attributes:
        store: its folder.
        recipe: the file of its recipe.
        spec: the recipe.
        run: name of the run.
    """

    store: Path
    recipe: Path
    spec: dict[str, Any]
    run: str


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The store that tests copy."""
    folder = tmp_path_factory.mktemp("programs")
    spec = build_tiny(folder / "web")
    record, _ = run_recipe(spec, folder / "store")
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return World(folder / "store", recipe, spec, record.run)


@pytest.fixture
def world(base: World, tmp_path: Path) -> World:
    """A store that the test may change."""
    return World(copied(base.store, tmp_path / "store"), base.recipe, base.spec, base.run)


Command = Callable[..., Any]


@pytest.fixture
def command() -> Command:
    """Run a command with --json; return what it printed, and check the exit status."""

    def run(*arguments: object, status: int = 0) -> Any:
        words = [str(argument) for argument in (*arguments, "--json")]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == status, result.output
        return json.loads(result.stdout)

    return run


def image_ids(store: Path) -> list[str]:
    """The image ids of the pool, in the order of the table."""
    from curation.engine.table import open_table

    images = open_table(Store(store), "images").read(["image_id", "role"]).to_pylist()
    return [row["image_id"] for row in images if row["role"] == "pool" and row["image_id"]]
