"""What people copy from the tables of a store is whole, however narrow they are."""

from __future__ import annotations

import re

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


def test_a_histogram_is_shown_in_the_order_of_its_numbers(world: World) -> None:
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(app, ["show", "copies", "--store", str(world.store), *options])
        assert shown.exit_code == 0
        sizes = re.search(r"sizes\"?: \{(.*?)\}", shown.output, re.DOTALL)
        assert sizes is not None
        first = [int(number) for number in re.findall(r"[\"'](\d+)", sizes[1])]
        assert first == [1, 2, 3, 4, 5, 9, 17, 33, 65, 129, 1025]
