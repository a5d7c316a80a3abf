"""What people copy from the tables of a store is whole, however narrow they are."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.engine.table import open_table
from curation.store.store import Store

from .conftest import World


@pytest.mark.parametrize("words", [["runs"], ["versions", "images"]])
def test_names_of_runs_and_versions_are_not_cut(words: list[str], world: World) -> None:
    done = CliRunner().invoke(app, [*words, "--store", str(world.store)])
    assert done.exit_code == 0
    assert world.run in done.output
    version = open_table(Store(world.store), "images").manifest.version
    assert words == ["runs"] or version in done.output
    assert "…" not in done.output
